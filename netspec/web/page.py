"""The page: its tabs, and the server that shows it."""

import importlib.util
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.errors import Error, lacking
from .checking import Checking
from .desk import Desk
from .reading import Reading
from .trying import Trying
from .watching import Watching

if TYPE_CHECKING:
    import gradio as gr

MOST_BYTES = 100 << 20  # of a file that is dropped
KEPT = 600  # seconds between two looks for files that nobody sees any more
# one server of ours, for this page alone: nothing is handed to others, or shown of its making
PLAIN: dict[str, Any] = {
    "share": False, "inbrowser": False, "ssr_mode": False, "pwa": False, "mcp_server": False,
    "run_history": False, "enable_monitoring": False, "footer_links": [], "strict_cors": True,
    "prevent_thread_lock": True, "quiet": True, "show_error": True}
STYLE = """
.said { margin: 0; overflow-wrap: anywhere }
.bad { color: var(--error-text-color); font-weight: 600 }
.prose th, .prose td { padding: .1em .6em; text-align: left; font-weight: normal }
td.number, th.number { text-align: right }
#curves figure { margin: 0 } #curves figcaption { display: none }
.findings { list-style: none; padding: 0; margin: 0 } .findings li { margin: 0 0 .8em }
.findings .where { opacity: .75; overflow-wrap: anywhere } .problem, .error { color: var(--error-text-color) }
.differences { overflow: auto; max-height: 80vh; margin: 0; line-height: 1.4 }
.differences .added { color: #1a7f37 } .dark .differences .added { color: #56d364 }
.differences .gone { color: #b3261e } .dark .differences .gone { color: #ff8a80 }
.differences .place { color: #0b61a4; font-weight: 600 } .dark .differences .place { color: #79c0ff }
.drawn figure { overflow: auto; max-height: 80vh; margin: .5em 0; background: #fff }
.drawn figcaption { display: none }
.drawn label { margin-right: 1em; white-space: nowrap } .drawn label input { margin-right: .3em }
.drawn img { max-width: none; margin: 0 }
.drawn:has([value="25"]:checked) img { zoom: .25 } .drawn:has([value="50"]:checked) img { zoom: .5 }
.drawn:has([value="200"]:checked) img { zoom: 2 }
.drawn:has([value="fit"]:checked) img { max-width: 100% }
"""


def prepare(temporary: Path) -> None:
    """Before anything else of the page: what the libraries behind it are told, which report nothing to
    anybody, and keep their files in a folder that goes. Raises Error where they are not installed."""
    os.environ.update({"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1",
                       "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1",
                       "GRADIO_TEMP_DIR": str(temporary / "cache")})
    if importlib.util.find_spec("gradio") is None:
        raise Error(lacking("the page in the browser", "gradio"))


def build(desk: Desk) -> "gr.Blocks":
    """The page."""
    global gr  # in the hints of what it calls, too, which it reads
    import gradio as gr

    def left(request: gr.Request) -> None:
        desk.leave(request.session_hash)

    with gr.Blocks(title="netspec", analytics_enabled=False, fill_width=True,
                   delete_cache=(KEPT, KEPT)) as page:
        with gr.Tab("Try", id="try"):
            trying = Trying(desk)
        with gr.Tab("Watch", id="watch") as tab:
            watching = Watching(desk)
        with gr.Tab("Read", id="read"):
            reading = Reading(desk)
        tab.select(watching.begin, watching.chosen, watching.chosen, show_progress="hidden")
        with gr.Tab("Check", id="check"):
            checking = Checking(desk)
        page.load(checking.begin, None, [checking.what, checking.dataset], show_progress="hidden")
        page.load(reading.begin, None, reading.net, show_progress="hidden")
        page.load(trying.begin, None, [trying.pairs, trying.picked], show_progress="hidden")
        page.unload(left)
    return page


def serve(desk: Desk, host: str, port: int, auth: tuple[str, str] | None, tell: Callable[[str], object]
          ) -> None:
    """Show the page until Ctrl-C. port: 0 takes a free one. tell: is told where it is. Raises Error where it
    cannot be shown there."""
    page = build(desk).queue(max_size=64, default_concurrency_limit=8)
    try:
        _, local, _ = page.launch(server_name=host, server_port=port or _free(host), auth=auth, css=STYLE,
                                  max_file_size=MOST_BYTES, **PLAIN)
    except OSError:
        raise Error(f"the page cannot be shown at {host}, port {port}: another program has it, or it is not "
                    "this machine's; give another --port or --host") from None
    try:
        tell(local)
        threading.Event().wait()
    finally:
        page.close()


def _free(host: str) -> int:
    """A port that nobody has."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as found:
        found.bind((host, 0))
        return found.getsockname()[1]
