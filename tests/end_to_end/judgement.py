"""What must hold between what the witnesses were told and what the database says: lost 0, twice 0, reordered 0.

Each rule takes plain data and gives complaints; an empty list is an acquittal. Whoever lets the relay misbehave says
when: only then an answer may get lost on its way, or a frame come twice.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.end_to_end.books import Books
from tests.end_to_end.evidence import REFUSED, SETTLING, TAKEN, Arrival, Evidence, Sent, Span, Step, any_touches

ONCE = {
    "worklist.update_item": "WorklistItem.Rescheduled",
    "worklist.cancel_item": "WorklistItem.Cancelled",
    "worklist.update_status": "WorklistItem.StatusReported",
}
"""Each kind of action that changes an item, and the event it becomes. The witnesses say each once about an item."""

_ENDINGS = ("PerformedProcedureStep.Completed", "PerformedProcedureStep.Discontinued")


# --- what the database says, at any moment


def receipts(books: Books, known: Evidence) -> list[str]:
    """Each acknowledged action is there, none is there twice, and none that nobody sent."""
    kept = Counter(each.details["action_id"] for each in books.timeline if each.kind.startswith("RelayAction."))
    scheduled = Counter(
        each.details.get("action_id") for each in books.timeline if each.kind == "WorklistItem.Scheduled"
    )
    missing = known.answered().keys() - kept.keys()
    strange = kept.keys() - {sent.action_id for sent in known.sent}
    return [
        *(f"lost: action {action_id} was acknowledged and is not there" for action_id in sorted(missing)),
        *(f"twice: action {action_id} is there {count} times" for action_id, count in kept.items() if count > 1),
        *(f"twice: action {action_id} made {count} items" for action_id, count in scheduled.items() if count > 1),
        *(f"action {action_id} is there and nobody sent it" for action_id in sorted(strange)),
    ]


def items(books: Books, known: Evidence) -> list[str]:
    """Each acknowledged change is in the worklist, and was made once."""
    made = Counter((each.kind, each.accession_number) for each in books.timeline)
    complaints = []
    for sent in known.answered().values():
        number, kind = sent.accession_number, ONCE.get(sent.action_type)
        row = books.items.get(number)
        if row is None:
            complaints.append(f"lost: item {number} was acknowledged and is missing")
        elif sent.action_type == "worklist.update_item" and row.scheduled_time != "200000":
            complaints.append(f"lost: item {number} was moved and is at {row.scheduled_time}")
        elif sent.action_type == "worklist.cancel_item" and row.status != "CANCELLED":
            complaints.append(f"lost: item {number} was cancelled and is {row.status}")
        elif sent.action_type == "worklist.update_status" and sent.done and row.status != "IN PROGRESS":
            complaints.append(f"lost: item {number} was said to be in progress and is {row.status}")
        if kind and sent.done and made[kind, number] != 1:
            complaints.append(f"{kind} of {number} happened {made[kind, number]} times")
    return complaints


def performed(books: Books, known: Evidence) -> list[str]:
    """Each N-CREATE and N-SET that was answered is there, and none is there twice."""
    began, ended = Counter[str](), Counter[str]()
    for each in books.timeline:
        if each.kind == "PerformedProcedureStep.Started":
            began[each.details["mpps_instance_uid"]] += 1
        elif each.kind in _ENDINGS:
            ended[each.details["mpps_instance_uid"]] += 1
    complaints = []
    for step in known.steps:
        for done, answers, what in ((began, step.created, "N-CREATE"), (ended, step.finished, "N-SET")):
            count, told = done[step.uid], bool(answers) and answers[-1] is not None
            if count > 1:
                complaints.append(f"twice: {what} of {step.accession_number} is there {count} times")
            elif count == 0 and told:
                complaints.append(f"lost: {what} of {step.accession_number} was answered and is not there")
    return complaints


def outbox(books: Books, known: Evidence) -> list[str]:
    """One row per status change, with a sequence of its own, settled only by the web app's word."""
    changes = sum(
        each.kind.startswith("WorklistItem.Step") and "update_sequence" in each.details for each in books.timeline
    )
    places = Counter((owed.accession_number, owed.sequence) for owed in books.outbox.values())
    complaints = [f"twice: {number} has {count} updates {n}" for (number, n), count in places.items() if count > 1]
    if changes != len(books.outbox):
        complaints.append(f"{changes} status changes, and {len(books.outbox)} rows in the outbox")
    for state, word, said in (("acknowledged", TAKEN, known.settled()), ("parked", REFUSED, known.refused())):
        for event_id in books.in_state(state) - said:
            complaints.append(f"lost: event {event_id} is {state}, and the web app never said {word}")
    for event_id in {arrival.event_id for arrival in known.arrivals} - books.outbox.keys():
        complaints.append(f"event {event_id} was sent and is not in the outbox")
    return complaints


def duplicates(known: Evidence, repeating: Sequence[Span] = ()) -> list[str]:
    """An action that was sent once is not answered as a duplicate, unless the relay was repeating frames."""
    return [
        f"action {sent.action_id} was sent once and is a duplicate"
        for sent in known.answered().values()
        if sent.tries == 1
        and sent.reply
        and sent.reply.get("duplicate")
        and not any_touches(repeating, sent.first_at, sent.answered_at)
    ]


# --- what came to the web app, at the end


@dataclass(frozen=True)
class Death:
    """What the database of a dead gateway said: what was settled, and how often each event had been sent."""

    settled: set[str]
    attempts: dict[str, int]

    @classmethod
    def of(cls, books: Books) -> Death:
        """From its books."""
        return cls(books.in_state("acknowledged") | books.in_state("parked"), books.attempts)


@dataclass(frozen=True)
class Deliveries:
    """All that came to the web app, and what explains a repeat.

    Attributes:
        arrivals: In the order in which they came.
        deaths: Of the gateway, the last one after everything.
        settling_attempts: `Books.settling_attempts` at the end.
        losing: When the relay may have lost an answer.
        repeating: When the relay may have delivered a frame twice.
    """

    arrivals: Sequence[Arrival]
    deaths: Sequence[Death]
    settling_attempts: dict[str, int]
    losing: Sequence[Span] = ()
    repeating: Sequence[Span] = ()

    def complaints(self) -> list[str]:
        """Whatever came in the wrong order, or once too often."""
        complaints = [complaint for arrival in self.arrivals for complaint in self._after_its_end(arrival)]
        settled_at: dict[str, float] = {}
        answers: dict[tuple[str, int], set[str]] = defaultdict(set)
        for arrival in self.arrivals:
            answers[arrival.event_id, arrival.attempt].add(arrival.answer)
            if arrival.answer in SETTLING:
                before = settled_at.get(arrival.event_id, arrival.answered_at)
                settled_at[arrival.event_id] = min(before, arrival.answered_at)
        heard: dict[str, list[Arrival]] = defaultdict(list)
        seen: set[tuple[str, int]] = set()
        for arrival in self.arrivals:
            if (arrival.event_id, arrival.attempt) not in seen:
                seen.add((arrival.event_id, arrival.attempt))
                heard[arrival.accession_number].append(arrival)
            elif not any_touches(self.repeating, arrival.at, arrival.at):
                complaints.append(f"twice: {arrival} came twice by one attempt")
        for number, arrivals in heard.items():
            complaints += _order(number, arrivals)
            for first, second in pairwise(arrivals):
                if first.event_id == second.event_id:
                    complaints += self._repeat(first, second, answers[first.event_id, first.attempt])
                elif settled_at.get(first.event_id, second.at + 1) > second.at:
                    complaints.append(f"reordered: {second} was sent before {first} was settled")
        return complaints

    def _after_its_end(self, arrival: Arrival) -> list[str]:
        """Nothing is sent after its acknowledgement, or its refusal, was committed."""
        settled_by = self.settling_attempts.get(arrival.event_id)
        if settled_by is not None and arrival.attempt > settled_by:
            return [f"twice: {arrival} was sent after attempt {settled_by} had settled it"]
        life = self._life(arrival)
        if life is None:
            return [f"{arrival} was sent and not counted"]
        return [
            f"twice: {arrival} was settled before death {number + 1}, and sent after it"
            for number in range(life)
            if arrival.event_id in self.deaths[number].settled
        ]

    def _life(self, arrival: Arrival) -> int | None:
        """In which life of the gateway this was sent; it may have come later."""
        lives = (n for n, death in enumerate(self.deaths) if death.attempts.get(arrival.event_id, 0) >= arrival.attempt)
        return next(lives, None)

    def _repeat(self, first: Arrival, second: Arrival, answers: set[str]) -> list[str]:
        """A repeat follows an answer that settles nothing, or one that was lost by a death or by the relay."""
        if second.attempt <= first.attempt:
            return [f"reordered: the attempts of {first} and {second}"]
        settles_nothing = bool(answers - SETTLING - {""})  # of a frame that came twice the relay passes one answer on
        died = self._life(second) != self._life(first)
        lost = any_touches(self.losing, first.at, max(first.at, first.answered_at))
        return [] if settles_nothing or died or lost else [f"twice: {second} was sent without need after {first}"]


def _order(number: str, arrivals: list[Arrival]) -> list[str]:
    """The sequence of an accession number never goes back and has no gap, and a number is one event."""
    sequences = [arrival.sequence for arrival in arrivals]
    events = {(arrival.sequence, arrival.event_id, arrival.status) for arrival in arrivals}
    complaints = []
    if sequences != sorted(sequences):
        complaints.append(f"reordered: {number} came as {sequences}")
    if {*sequences} != {*range(1, max(sequences) + 1)}:
        complaints.append(f"lost: {number} has a gap in {sequences}")
    if len(events) != len({*sequences}):
        complaints.append(f"twice: a repeat for {number} is another event: {sorted(events)}")
    return complaints


# --- when all has come to its end


def the_end(books: Books, known: Evidence) -> list[str]:
    """Everything was answered and delivered, and each item is what its step made it."""
    waiting = books.in_state("waiting")
    complaints = [f"lost: event {event_id} still waits" for event_id in waiting]
    for state, said in (("acknowledged", known.settled()), ("parked", known.refused())):
        complaints += [
            f"event {each} was {state} by the web app and is not" for each in said - books.in_state(state) - waiting
        ]
    complaints += [f"{sent.action_type} of {sent.accession_number} was never answered" for sent in _unanswered(known)]
    for step in known.steps:
        item = books.items.get(step.accession_number)
        if item is None or item.status != step.outcome:
            complaints.append(f"lost: {_about(step)}, and the item is {item.status if item else 'missing'}")
    return complaints


def _unanswered(known: Evidence) -> list[Sent]:
    return [sent for sent in known.sent if sent.reply is None]


def _about(step: Step) -> str:
    return f"the step of {step.accession_number} was {step.outcome}"
