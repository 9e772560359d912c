"""What a content does to the history: the same on every device, in whatever order they come.

`apply` takes what has arrived (or was synced from a device of one's own), `compose` what this
device is about to send. All methods belong to a transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from raychat import limits
from raychat.client.changes import HOUR_MS, Outcome
from raychat.client.contacts import OWN, SYNCED, Made
from raychat.client.events import (
    Event,
    MessageChanged,
    MessageGone,
    MessageReceived,
    Read,
    SentElsewhere,
    SettingChanged,
    What,
)
from raychat.client.model import Body, Conversation, Message, State
from raychat.client.recent import Recent
from raychat.client.store import DeviceStore
from raychat.errors import Denied, Malformed, NotFound, TooLate
from raychat.ids import AccountId
from raychat.wire.content import (
    Change,
    Content,
    Delete,
    Edit,
    Erase,
    Marks,
    MessageName,
    OwnSync,
    Profile,
    Reaction,
    Resend,
    Sent,
    Settings,
    Text,
    Timer,
    Vote,
    decode,
    is_shown,
)
from raychat.wire.content import Read as Seen

CLOCK_AHEAD_MS: Final = limits.CLOCK_AHEAD_HOURS * HOUR_MS

_WHAT: Final[dict[type, What]] = {
    Edit: What.EDITED,
    Delete: What.DELETED,
    Reaction: What.REACTED,
    Vote: What.VOTED,
}


class Applied(NamedTuple):
    """What a content has done.

    `shown`: a person sees a new message; that earns its sender a ✓✓. `known`: what it refers
    to is here, so that its sender may be told; False for what refers to nothing, comes from
    someone blocked, or is not theirs to say.
    """

    events: list[Event]
    shown: bool
    known: bool


class Composed(NamedTuple):
    """A content of this device as it is to be sent, and the message it is shown as, if any."""

    content: Content
    key: int | None
    events: list[Event]


_IGNORED: Final = Applied([], False, False)
_NOTHING: Final = Applied([], False, True)


class Applier:
    """Contents to history. Of kinds that concern no history (typing, retry, devices, transfer)
    it says known, not shown."""

    def __init__(self, store: DeviceStore) -> None:
        """Raises NotRegistered."""
        self._store = store
        self._address = store.own().address
        self._own = self._address.account
        self._recent = Recent(store.connection)
        self._swept = 0

    # -- what arrives ----------------------------------------------------------------------

    def apply(
        self,
        name: MessageName,
        peer: AccountId,
        outgoing: bool,
        content: Content,
        at: int,
        now: int,
    ) -> Applied:
        """A content that has arrived under `name` in the conversation with `peer`.

        `name.account` has written it and `at` is the server's time of it (ms). `outgoing`: it
        was sent to `peer` by a device of one's own (what comes from one's own account is given
        with peer = own account and outgoing = True; `Sent` is unwrapped here). Applying twice
        does nothing more. Raises Malformed, TooLarge if what a `Sent` or `Resend` holds cannot
        be read.
        """
        if isinstance(content, OwnSync):
            return self._sync(name, content, at, now)
        history = self._store.history
        here = history.conversation_with(peer)
        if here is not None and here.blocked and not outgoing:
            return _IGNORED
        if isinstance(content, Body):
            here = here or history.open_conversation(peer)
            return self._message(name, here, outgoing, content, at, now)
        if isinstance(content, Change):
            here = here or history.open_conversation(peer)
            return self._change(name.account, here, content, at, now)
        if isinstance(content, Resend):
            return self._resend(name, peer, outgoing, content, at, now)
        if isinstance(content, Seen) and not outgoing:
            return self._they_read(here, content, now)
        if isinstance(content, Profile) and not outgoing:
            return self._profile(name.account, here, content)
        return _NOTHING

    def _message(
        self,
        name: MessageName,
        here: Conversation,
        outgoing: bool,
        body: Body,
        at: int,
        now: int,
    ) -> Applied:
        history, changes = self._store.history, self._store.changes
        key = history.add(here.id, name, body, outgoing=outgoing, at=at, now=now)
        events: list[Event] = []
        if isinstance(body, Timer):
            events += self._timer(name.account, here, body, at)
        if outgoing:
            events += self._accept(here, body.at)
        if key is None:
            return Applied(events, False, True)
        for author, change, changed_at in changes.take_waiting(here.id, name):
            target = changes.target(here.id, name)
            assert target is not None
            changes.apply(target, author, change, changed_at)
        added = self._message_at(key)
        events.append(SentElsewhere(added) if outgoing else MessageReceived(added))
        return Applied(events, not outgoing and is_shown(body), True)

    def _change(
        self, author: AccountId, here: Conversation, change: Change, at: int, now: int
    ) -> Applied:
        changes = self._store.changes
        target = changes.target(here.id, change.target)
        if target is None:
            if not self._store.history.is_gone(here.id, change.target):
                changes.keep_waiting(here.id, author, change, at, now)
            return _IGNORED
        match changes.apply(target, author, change, at):
            case Outcome.CHANGED:
                if isinstance(change, Delete):
                    self._forget_words(here.id, [change.target])
                what = MessageChanged(target.key, here.id, _WHAT[type(change)], author)
                return Applied([what], False, True)
            case Outcome.NOTHING:
                return _NOTHING
        return _IGNORED

    def _resend(
        self,
        name: MessageName,
        peer: AccountId,
        outgoing: bool,
        resend: Resend,
        at: int,
        now: int,
    ) -> Applied:
        """The message it names, perhaps for the first time here: also one of one's own, if the
        word of its first sending has not come."""
        original = resend.message.of(name.account)
        inner = decode(resend.content)
        if isinstance(inner, Resend | OwnSync):
            raise Malformed("What is sent again is not sent again in it.")
        applied = self.apply(original, peer, outgoing, inner, at, now)
        here = self._store.history.conversation_with(peer)
        if outgoing and here is not None:
            self._store.history.add_alias(here.id, name, original)
        return applied

    def _they_read(self, here: Conversation | None, seen: Seen, now: int) -> Applied:
        if here is None:
            return _IGNORED
        at = min(seen.at, now)
        events: list[Event] = [
            Read(key, here.id, at)
            for device, incarnation, ranges in seen.marks
            for lo, hi in zip(ranges[::2], ranges[1::2], strict=True)
            for key in self._store.history.mark_outgoing(
                here.id, device, incarnation, lo, hi, State.READ, at
            )
        ]
        return Applied(events, False, True)

    def _profile(self, author: AccountId, here: Conversation | None, profile: Profile) -> Applied:
        if here is None:
            return _IGNORED
        made = Made(profile.at, author, profile.name)
        return Applied(self._put(here.id, "profile", made), False, True)

    # -- what comes from another device of one's own -----------------------------------------

    def _sync(self, name: MessageName, content: OwnSync, at: int, now: int) -> Applied:
        if name.account != self._own:
            return _IGNORED
        match content:
            case Sent():
                return self._sent(content, now)
            case Marks():
                return Applied(self._we_read(content, now), False, True)
            case Settings():
                return Applied(self._settings(content), False, True)
            case Erase():
                return Applied(self._erase(content, now), False, True)
        return _NOTHING

    def _sent(self, sent: Sent, now: int) -> Applied:
        inner = decode(sent.content)
        if isinstance(inner, OwnSync):
            raise Malformed("What one's own devices tell each other was not sent to anyone.")
        if sent.name.account != self._own:
            return _IGNORED
        return self.apply(sent.name, sent.peer, True, inner, sent.sent, now)

    def _we_read(self, marks: Marks, now: int) -> list[Event]:
        history, at = self._store.history, min(marks.at, now)
        events: list[Event] = []
        for peer, read in marks.read_messages:
            here = history.open_conversation(peer)
            events += [
                Read(key, here.id, at)
                for device, incarnation, ranges in read
                for lo, hi in zip(ranges[::2], ranges[1::2], strict=True)
                for key in history.mark_read_elsewhere(here.id, device, incarnation, lo, hi, at)
            ]
        return events

    def _settings(self, settings: Settings) -> list[Event]:
        events: list[Event] = []
        for peer, name, value in settings.settings:
            made = Made(settings.at, self._own, value)
            if peer is None:
                events += self._put(OWN, name, made)
            elif name in SYNCED:
                events += self._put(self._store.history.open_conversation(peer).id, name, made)
        return events

    def _erase(self, erase: Erase, now: int) -> list[Event]:
        here = self._store.history.open_conversation(erase.peer)
        removed = [self._store.changes.remove(here.id, name, now) for name in erase.messages]
        self._forget_words(here.id, erase.messages)
        return [MessageGone(key, here.id) for key in removed if key is not None]

    # -- what this device sends --------------------------------------------------------------

    def compose(self, conversation: int, content: Content, now: int) -> Composed:
        """A content of this device that is to be sent to a conversation (settings and erasures:
        to one's own account).

        What is to be sent is the `content` returned: its time may have moved, so that it counts
        after what this account has said before. Raises NotFound (no such message), Denied (not
        its author), TooLate (the time to edit or delete is over), Malformed (it makes no sense).
        """
        history = self._store.history
        here = history.conversation(conversation)
        if here is None:
            raise NotFound("There is no such conversation.")
        events: list[Event] = []
        match content:
            case Settings():
                content = self._after_settings(content)
                events += self._settings(content)
            case Erase():
                events += self._erase(content, now)
            case Edit() | Delete() | Reaction() | Vote():
                return self._compose_change(here, content)
            case Timer():
                last = history.setting(here.id, "timer")
                content = content._replace(at=max(content.at, last.at + 1 if last else 0))
                events += self._timer(self._own, here, content, content.at)
        if not isinstance(content, Body):
            return Composed(content, None, events)
        events += self._accept(here, content.at)
        return Composed(content, history.compose(here.id, content, content.at), events)

    def _compose_change(self, here: Conversation, change: Change) -> Composed:
        changes = self._store.changes
        target = changes.target(here.id, change.target)
        if target is None:
            raise NotFound("There is no such message any more.")
        last = changes.last(target, self._own, change)
        change = change._replace(at=max(change.at, last + 1))
        match changes.apply(target, self._own, change, None):
            case Outcome.DENIED:
                raise Denied("Only who has written a message can edit or delete it.")
            case Outcome.LATE:
                raise TooLate
            case Outcome.SENSELESS:
                raise Malformed("That cannot be done with such a message.")
        if isinstance(change, Delete):
            self._forget_words(here.id, [change.target])
        what = MessageChanged(target.key, here.id, _WHAT[type(change)], self._own)
        return Composed(change, None, [what])

    def _after_settings(self, settings: Settings) -> Settings:
        """The settings, as made after those they replace."""
        history, at = self._store.history, settings.at
        for peer, name, _ in settings.settings:
            of = OWN if peer is None else history.open_conversation(peer).id
            last = history.setting(of, name)
            at = max(at, last.at + 1 if last else 0)
        return settings._replace(at=at)

    # -- what time and the person do ---------------------------------------------------------

    def open_once(self, key: int) -> tuple[Text | None, list[Event]]:
        """What a message to be viewed once says. It is wiped with the end of the transaction;
        None if that has happened before."""
        message = self._store.history.message(key)
        text = self._store.changes.open_once(key)
        if message is None or text is None:
            return None, []
        what = MessageChanged(key, message.conversation.id, What.OPENED, self._own)
        return text, [what]

    def expire(self, now: int) -> tuple[list[Event], int | None]:
        """Remove the messages whose time is over; what went, and when (ms) the next one is due.

        Cheap when there is nothing to do, so call it every turn. Call `DeviceStore.scrub` after
        the transaction if anything went.
        """
        if now >= self._swept + HOUR_MS:
            self._store.expiry.forget(now)
            self._swept = now
        due = self._store.expiry.deadline()
        if due is None or due > now:
            return [], due
        went = self._store.expiry.sweep(now)
        names: dict[int, list[MessageName]] = {}
        for _, conversation, name in went:
            if name is not None:
                names.setdefault(conversation, []).append(name)
        for conversation, gone in names.items():
            self._forget_words(conversation, gone)
        events: list[Event] = [MessageGone(key, conversation) for key, conversation, _ in went]
        return events, self._store.expiry.deadline()

    def _forget_words(self, conversation: int, names: Sequence[MessageName]) -> None:
        """What is gone is not kept to be sent once more either."""
        here = self._store.history.conversation(conversation)
        own = [name for name in names if name.account == self._own]
        if own and here is not None and here.account is not None:
            self._recent.forget_words(self._address, here.account, own)

    # -- settings ----------------------------------------------------------------------------

    def _timer(self, author: AccountId, here: Conversation, timer: Timer, at: int) -> list[Event]:
        made = Made(min(timer.at, at + CLOCK_AHEAD_MS), author, timer.seconds)
        return self._put(here.id, "timer", made)

    def _accept(self, here: Conversation, at: int) -> list[Event]:
        """Who is answered is no stranger any more, unless later on they are said to be one."""
        return self._put(here.id, "accepted", Made(at, self._own, True))

    def _put(self, conversation: int, name: str, made: Made) -> list[Event]:
        if not self._store.history.put_setting(conversation, name, made):
            return []
        return [SettingChanged(conversation if conversation != OWN else None, name)]

    def _message_at(self, key: int) -> Message:
        found = self._store.history.message(key)
        assert found is not None
        return found
