"""OpenVINO, the runtime of processors: ``select`` decides whether and how, ``cache`` keeps what ``convert`` makes."""
