"""From a browser that was let in to its screen: reach the VNC server, be let in there, greet the browser, join both."""

from __future__ import annotations

import asyncio
import logging
import socket
from asyncio import timeout

from consoleproxy.rfb.client import ClientMessages
from consoleproxy.rfb.errors import RfbError
from consoleproxy.rfb.security import enter
from consoleproxy.rfb.server import ServerMessages, followed
from consoleproxy.services.console.model import Playback, Session, VncTarget
from consoleproxy.services.console.relay import frames
from consoleproxy.services.console.relay.config import Config
from consoleproxy.services.console.relay.link import HIGH_WATER, LOW_WATER, NO_SCREEN, Link, ServerSide
from consoleproxy.services.console.relay.playback import BROWSER_PATIENCE, Clock, play
from consoleproxy.services.console.relay.recordings import Recordings
from consoleproxy.services.console.relay.streams import Stream

log = logging.getLogger(__name__)

#: seconds to reach a VNC server and be let in
SERVER_PATIENCE = 15.0
#: what the browser is told, whatever went wrong
NO_ANSWER = "The machine's screen cannot be reached now."


def messages_for(session: Session) -> ClientMessages:
    """The filter of what this session's browser says."""
    policy = session.policy
    playback = isinstance(session.target, Playback)
    return ClientMessages(
        view_only=policy.view_only or playback,
        clipboard=policy.clipboard,
        followed=None if policy.clipboard or playback else followed,
    )


async def open_screen(link: Link, session: Session, recordings: Recordings, config: Config, clock: Clock) -> None:
    """Join ``link`` to the session's screen. Failures close the link; nothing is raised.

    ``clock``: where a session that shows a recording is in it.
    """
    stream: Stream | None = None
    try:
        target = session.target
        if isinstance(target, Playback):
            await play(link, recordings.brought(target.recording), clock)
            return
        async with timeout(SERVER_PATIENCE):
            stream = await _reach(target)
            await enter(stream, target)
        link.greet()
        assert link.greeted is not None
        try:
            async with timeout(BROWSER_PATIENCE):
                await link.greeted
        except TimeoutError as error:
            raise RfbError(f"the browser did not end its handshake within {BROWSER_PATIENCE:g} s") from error
        watcher = recordings.begin(session, config) if session.policy.record else None
        filter = None if session.policy.clipboard else ServerMessages(link.messages.server_format).feed
        side = ServerSide(link, filter, watcher)
        side.transport, rest = stream.hand_over(side)
        side.transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        stream = None
        link.attach(side, bytes([session.policy.sharing == "shared"]), rest)
    except asyncio.CancelledError:
        link.close(frames.GOING_AWAY, "closed")
    except (RfbError, OSError, EOFError, TimeoutError) as error:
        what = f"no answer within {SERVER_PATIENCE:g} s" if isinstance(error, TimeoutError) else error
        log.warning("session %s: no screen of %s: %s", session.id, session.vm, what)
        link.refuse(NO_ANSWER, NO_SCREEN, "the machine's screen cannot be reached")
    except Exception:
        log.exception("session %s", session.id)
        link.close(frames.INTERNAL, "internal error")
    finally:
        if stream is not None:
            stream.close()


async def _reach(target: VncTarget) -> Stream:
    _, stream = await asyncio.get_running_loop().create_connection(Stream, str(target.host), target.port)
    if (connection := stream.transport.get_extra_info("socket")) is not None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream
