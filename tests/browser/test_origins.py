"""What a real Chromium lets a page of another origin do, and the page and /docs below a proxy's path."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.apps import App, listening
from tonearm.web.requests.keys import new_key

KEY, LINE = new_key("radio")
# Asks another server as a page would, and returns the status or that nothing may be read.
ASK = """async ([url, method, headers]) => {
  try {
    const answer = await fetch(url, {method, headers, body: method === "POST" ? new Uint8Array(9) : undefined});
    return [answer.status, (await answer.json()).code || "", answer.headers.get("x-request-id") !== null];
  } catch { return "nothing"; }
}"""
BLIND = """async (url) => { await fetch(url, {method: "POST", mode: "no-cors", body: new Blob(["x"])}); }"""


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(bypass_csp=True)
    yield context.new_page()
    context.close()


def test_only_allowed_origins_may_call_the_server(page: Page) -> None:
    with listening(App()) as port:
        origin = f"http://127.0.0.1:{port}"
        page.goto(f"{origin}/")
        closed, allowing, guarded = App(), App(allow_origins=(origin,)), App(allow_origins=(origin,), api_keys=(LINE,))
        with listening(closed) as a, listening(allowing) as b, listening(guarded) as c:
            page.evaluate(BLIND, f"http://127.0.0.1:{a}/v1/view")
            assert page.evaluate(ASK, [f"http://127.0.0.1:{a}/v1/view", "POST", {}]) == "nothing"
            assert not closed.engine.calls
            for port_of, headers in ((b, {}), (c, {"Authorization": f"Bearer {KEY}"}), (c, {"X-API-Key": KEY})):
                url = f"http://127.0.0.1:{port_of}/v1/view"
                assert page.evaluate(ASK, [url, "POST", {**headers, "X-Request-ID": "a"}]) == [200, "", True]
            assert len(allowing.engine.calls) == 1
            wrong = page.evaluate(ASK, [f"http://127.0.0.1:{c}/v1/view", "POST", {"X-API-Key": "ta-wrong"}])
            assert wrong == [401, "unauthorized", True]
            # Its own page has nothing to ask for, and a link leads to it.
            page.set_content(f'<a href="http://127.0.0.1:{a}/">there</a>')
            page.click("a")
            page.wait_for_selector("#drop")
            assert page.evaluate(ASK, [f"http://127.0.0.1:{a}/v1/view", "POST", {}])[0] == 200


@pytest.mark.parametrize("before", ["/music", "/music/"])
def test_page_and_docs_below_a_path(browser: Browser, before: str) -> None:
    page = browser.new_page()
    failed: list[str] = []
    page.on("response", lambda answer: failed.append(answer.url) if answer.status in (403, 404) else None)
    page.on("pageerror", lambda error: failed.append(str(error)))
    with listening(App(root_path="/music")) as port:
        with page.expect_request(f"http://127.0.0.1:{port}/music/v1/models"):
            page.goto(f"http://127.0.0.1:{port}{before}")
        page.goto(f"http://127.0.0.1:{port}/music/docs")
        page.wait_for_selector(".opblock")
        assert page.locator(".opblock").count() >= 8
        assert page.locator(".servers select").input_value() == "/music"
    assert not failed
    page.close()
