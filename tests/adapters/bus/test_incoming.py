"""Messages are cut and chosen by their headers, and senders take turns."""

from __future__ import annotations

import struct

import pytest
from dbus_next.constants import MessageFlag, MessageType
from dbus_next.message import Message
from hypothesis import given
from hypothesis import strategies as st

from fleetd.adapters.bus.header import FIXED_BYTES, METHOD_CALL, SIGNAL, Header, header_of, size_of
from fleetd.adapters.bus.incoming import HEADER_BYTES_MAX, Call, CallQueue, MessageSplitter, Received, parsed

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,60}(\.[A-Za-z_][A-Za-z0-9_]{0,60}){1,2}", fullmatch=True)
members = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,60}", fullmatch=True)
paths = st.from_regex(r"(/[A-Za-z0-9_]{1,20}){1,5}", fullmatch=True)
texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=200)


def marshalled(message: Message) -> bytes:
    return bytes(message._marshall())  # type: ignore[no-untyped-call]


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A message as a sender makes it, with the sender that the bus adds."""
    kind = draw(st.sampled_from([MessageType.METHOD_CALL, MessageType.METHOD_RETURN, MessageType.SIGNAL]))
    reply = kind is MessageType.METHOD_RETURN
    body = draw(st.sampled_from([[], ["s"], ["u", "s"]]))
    message = Message(
        message_type=kind,
        flags=draw(st.sampled_from([MessageFlag.NONE, MessageFlag.NO_REPLY_EXPECTED])),
        serial=draw(st.integers(1, 2**32 - 1)),
        reply_serial=draw(st.integers(1, 2**32 - 1)) if reply else 0,
        destination=draw(names),
        **({} if reply else {"path": draw(paths), "interface": draw(names), "member": draw(members)}),  # type: ignore[arg-type]
        signature="".join(body),
        body=[draw(texts) if kind == "s" else draw(st.integers(0, 2**32 - 1)) for kind in body],
    )
    return marshalled(message)


def all_of(header: Header) -> int | None:
    return 1024 * 1024


def call_of(sender: str, member: str = "Ping", body_bytes: int = 0) -> Call:
    size = size_of(struct.pack("<BBBBIII", ord("l"), METHOD_CALL, 0, 1, body_bytes, 1, 100))
    header = Header(kind=METHOD_CALL, flags=0, serial=1, size=size, sender=sender, member=member)
    return Call(Received(header, bytes(size.whole)))


@given(messages())
def test_a_header_says_what_the_library_says(content: bytes) -> None:
    header, message = header_of(content), parsed(content)
    assert header is not None
    assert header.kind == message.message_type.value
    assert header.flags == message.flags.value
    assert header.expects_reply == (message.flags is not MessageFlag.NO_REPLY_EXPECTED)
    assert (header.serial, header.reply_serial) == (message.serial, message.reply_serial or 0)
    assert (header.path, header.interface) == (message.path or "", message.interface or "")
    assert (header.member, header.signature) == (message.member or "", message.signature)
    assert header.size.whole == len(content)


def test_a_big_endian_header() -> None:
    fields = b"\x05\x01u\0" + struct.pack(">I", 77) + b"\x07\x01s\0" + struct.pack(">I", 4) + b":1.5\0"
    content = struct.pack(">BBBBIII", ord("B"), 2, 0, 1, 0, 3, len(fields)) + fields + bytes(-len(fields) % 8)
    header = header_of(content)
    assert header is not None
    assert (header.serial, header.reply_serial, header.sender) == (3, 77, ":1.5")
    assert header.size.whole == len(content)


@given(st.lists(messages(), max_size=8), st.lists(st.integers(1, 300), min_size=1))
def test_messages_are_the_same_however_the_bytes_come(sent: list[bytes], chunks: list[int]) -> None:
    splitter, stream, came = MessageSplitter(all_of), b"".join(sent), list[Received]()
    at = turn = 0
    while at < len(stream):
        count = chunks[turn % len(chunks)]
        came += splitter.feed(stream[at : at + count])
        at, turn = at + count, turn + 1
    assert [received.content for received in came] == sent
    assert not splitter.amid_long


@given(st.lists(st.tuples(messages(), st.sampled_from(["whole", "header", "none"])), max_size=8), st.integers(1, 300))
def test_what_is_not_wanted_does_not_move_what_follows(sent: list[tuple[bytes, str]], chunk: int) -> None:
    body_bytes_max = {"whole": 1024 * 1024, "header": -1, "none": None}
    stream, expected = b"", list[tuple[int, bytes | None]]()
    for number, (content, wish) in enumerate(sent):
        numbered = content[:8] + struct.pack("<I", number) + content[12:]  # its serial
        stream += numbered
        if wish != "none":
            expected.append((number, numbered if wish == "whole" else None))
    splitter = MessageSplitter(lambda header: body_bytes_max[sent[header.serial][1]])
    came = [r for at in range(0, len(stream), chunk) for r in splitter.feed(stream[at : at + chunk])]
    assert [(r.header.serial, r.content) for r in came] == expected


@given(st.binary(min_size=FIXED_BYTES, max_size=400), st.sampled_from([b"l", b"B"]))
def test_bytes_that_are_no_header_are_no_header(content: bytes, endian: bytes) -> None:
    content = endian + content[1:3] + b"\x01" + content[4:]
    header_of(content)  # None or a header; never an exception
    with pytest.raises(ValueError, match="D-Bus"):
        list(MessageSplitter(all_of).feed(b"\0" + content))


def test_a_long_message_that_is_not_wanted_is_never_kept() -> None:
    body = 8_000_000
    fields = b"\x03\x01s\0" + struct.pack("<I", 4) + b"Ping\0"
    start = struct.pack("<BBBBIII", ord("l"), METHOD_CALL, 0, 1, body, 1, len(fields)) + fields + bytes(3)
    splitter = MessageSplitter(lambda _: 16_384)
    [received] = splitter.feed(start)
    assert received.content is None
    for _ in range(body // 64_000):
        assert splitter.amid_long
        assert list(splitter.feed(bytes(64_000))) == []
        assert len(splitter._buffer) < 64_000
    assert not splitter.amid_long


def test_a_header_that_is_too_long_is_skipped_with_its_message() -> None:
    fields = HEADER_BYTES_MAX + 8
    start = struct.pack("<BBBBIII", ord("l"), SIGNAL, 0, 1, 80, 1, fields)
    after = marshalled(Message(path="/a", member="Ping", serial=9))
    came = list(MessageSplitter(all_of).feed(start + bytes(fields + 80) + after))
    assert [r.header.serial for r in came] == [9]


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=60))
def test_senders_take_turns(senders: list[str]) -> None:
    queue, taken = CallQueue(), []
    for number, sender in enumerate(senders):
        queue.put(call_of(sender, str(number)))
    while queue:
        taken.append(queue.take().header)
    assert sorted(int(h.member) for h in taken) == list(range(len(senders)))  # nobody's call is lost
    for sender in set(senders):
        mine = [int(h.member) for h in taken if h.sender == sender]
        assert mine == sorted(mine)  # each sender's own order holds
    for number, header in enumerate(taken):  # nobody is served twice while another waits
        waiting = {h.sender for h in taken[number:]} - {header.sender}
        if number + 1 < len(taken) and waiting:
            assert taken[number + 1].sender != header.sender


def test_a_flood_leaves_room_for_everybody_elses_first_call() -> None:
    queue = CallQueue()
    for _ in range(10_000):
        queue.put(call_of("flood", body_bytes=16_000))
    queue.put(call_of("root"))
    queue.put(call_of("root"))  # while a megabyte waits, a second one has to wait for the first
    assert queue._waiting_bytes < 1_100_000
    assert queue.take().header.sender == "flood"
    assert queue.take().header.sender == "root"
    while queue:
        assert queue.take().header.sender == "flood"
    assert queue._waiting_bytes == 0
