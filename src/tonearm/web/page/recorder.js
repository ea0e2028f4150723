// The microphone: one button that starts and stops.

export function prepareRecorder(button, status, take) {
  if (!navigator.mediaDevices || !window.MediaRecorder) {
    button.disabled = true;
    status.textContent = "Recording needs https, or this machine itself.";
    return;
  }
  let recorder = null;
  let count = 0;

  button.onclick = async () => {
    if (recorder) {
      recorder.stop();
      return;
    }
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    } catch {
      status.textContent = "The microphone is not available; allow it in the browser and try again.";
      return;
    }
    const parts = [];
    const started = Date.now();
    recorder = new MediaRecorder(stream);
    recorder.ondataavailable = (event) => parts.push(event.data);
    const clock = setInterval(() => {
      status.textContent = `Recording: ${Math.round((Date.now() - started) / 1000)} s`;
    }, 500);
    recorder.onstop = () => {
      clearInterval(clock);
      stream.getTracks().forEach((track) => track.stop());
      const type = recorder.mimeType;
      recorder = null;
      button.textContent = "Record";
      status.textContent = "";
      count += 1;
      take(new File(parts, `Recording ${count}`, { type }));
    };
    recorder.start(1000);
    button.textContent = "Stop";
    status.textContent = "Recording: 0 s";
  };
}
