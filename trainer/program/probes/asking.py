"""Questions to a program, and their answers: from disk, or from a process of it, whose first answer is compared."""

from __future__ import annotations

import functools
import hashlib
import time
from contextlib import ExitStack
from pathlib import Path

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.identity import canonical, digest
from ablative.study.core.typed import Settings
from ablative.trainer.program.probes.hydra_command import printed_configuration
from ablative.trainer.program.probes.kept_answers import KeptAnswers
from ablative.trainer.program.probes.process import LateError, NoAnswerError, Place, Process
from ablative.trainer.program.probes.program import Invocation, Program
from ablative.trainer.program.probes.twice import elsewhere, here, later_here, varying

APART = 1.1
"""Seconds between the starts of the two processes that are asked the same: names of runs have seconds in them."""
PROCESSES = 3
"""Most processes of one program at the same time, and most that are compared with a second one."""
DECLARE = "declare the values in the study instead, `config: {key: value}`"
_READS = {
    "argparse": "parsed its command line with argparse",
    "hydra": "came to its `hydra.main`",
    "type": "been imported",
}
"""Kind → what the program did not do, where it cannot be read."""
_HYDRAS_HINT = "Set the environment variable HYDRA_FULL_ERROR=1"


class Asking:
    """Asks processes of the user's interpreter for the cells of one plan."""

    def __init__(self, kind: str, invocation: Invocation, seconds: float) -> None:
        self._kind, self._invocation, self._seconds = kind, invocation, seconds
        self._processes: dict[Program, list[Process]] = {}
        """Last the one that has answered last; several of a program that goes another way for other arguments."""
        self._kept: dict[Program, KeptAnswers] = {}
        self._compared = 0

    def close(self) -> None:
        """End the processes that answer."""
        for processes in self._processes.values():
            for process in processes:
                process.close()
        self._processes.clear()

    def values(self, program: Program, request: Settings) -> Settings:
        """The reply with the `values`, and those that were found to be `varying`; raises ConfigError for a refusal."""
        reply = self._kept_answers(program).get(canonical(request))
        if reply is None:
            reply = self._ask(program, request)
            if "values" not in reply:
                raise self._refusal(program, reply)
            self._keep(program, request, reply)
        return reply

    def options(self, program: Program, request: Settings) -> Settings:
        """The options of the parser that a command line comes to, even where it refuses that."""
        meant = {**request, "for": "options"}
        reply = self._kept_answers(program).get(canonical(meant))
        if reply is None:
            reply = self._ask(program, request)
            if "options" not in reply:
                raise self._refusal(program, reply)
            self._keep(program, meant, {"options": reply["options"], "used": reply["used"]})
        options: Settings = reply["options"]
        return options

    def _kept_answers(self, program: Program) -> KeptAnswers:
        if program not in self._kept:
            invocation, python = self._invocation, self._invocation.interpreter()
            meant = [self._kind, str(python), str(invocation.cwd), dict(invocation.env)]
            name = digest(canonical([*meant, program.target, program.options, _sources()]))
            self._kept[program] = KeptAnswers(invocation.cache, name, python, invocation.environment())
        return self._kept[program]

    def _keep(self, program: Program, request: Settings, reply: Settings) -> None:
        kept, processes = self._kept[program], self._processes[program]
        if not processes:  # it had to be asked another way
            return
        process = processes[-1]
        if process.kept is None and process.reached is not None:
            process.kept = kept.begin(process.reached, process.started_ns)
        if process.kept:
            kept.put(canonical(request), reply, process.kept, process.started_ns)

    def _ask(self, program: Program, request: Settings) -> Settings:
        """The reply of a process, which then is the last of the program's; raises ConfigError where there is none."""
        try:
            reply = self._reply(program, request)
        except NoAnswerError as error:
            return self._without_answer(program, request, str(error), late=isinstance(error, LateError))
        if "died" in reply:
            return self._without_answer(program, request, f"ended without an answer (status {reply['died']})")
        if "error" in reply:
            reply = {**reply, "said": self._processes[program][-1].said()}
        if reply.get("ended"):
            self._processes[program].pop().close()
        return reply

    def _reply(self, program: Program, request: Settings) -> Settings:
        processes = self._processes.setdefault(program, [])
        reply = None
        for process in processes[::-1]:
            processes.remove(process)
            processes.append(process)
            reply = process.ask(request)
            if "restart" not in reply:
                break
        else:
            reply = None
            if len(processes) == PROCESSES:
                processes.pop(0).close()
            processes.append(self._start(program, request, here(self._invocation)))
        if processes[-1].compared or self._compared >= PROCESSES:
            return reply or processes[-1].answer()
        return self._compare(program, request, reply)

    def _start(self, program: Program, request: Settings, place: Place) -> Process:
        return Process(self._invocation, self._kind, program, request, place, self._seconds)

    def _compare(self, program: Program, request: Settings, reply: Settings | None) -> Settings:
        """The answer of the last process (`reply`, if it has come already), compared with that of another one."""
        process = self._processes[program][-1]
        begun = process.started_ns / 1e9
        with ExitStack() as stack:
            # Both run at the same time: what is slow is mostly the import of libraries.
            reply = reply or process.early_answer(APART)
            if reply is not None and "values" not in reply:
                return reply
            time.sleep(max(0.0, begun + APART - time.time()))
            others = [self._start(program, request, stack.enter_context(elsewhere(self._invocation)))]
            stack.callback(others[0].close)
            reply = reply or process.answer()
            if "values" not in reply:
                return reply
            found = _values(others[0])
            if found is None:
                others.append(self._start(program, request, later_here(self._invocation)))
                stack.callback(others[1].close)
                found = _values(others[1])
            if found is None:
                said = others[1].said() or "it said nothing"
                raise ConfigError(
                    f"{self._invocation.where}: {program.name} could be asked for its configuration once, and not "
                    f"again: {said}"
                )
        process.compared = True
        self._compared += 1
        different = varying(reply["values"], found, canonical(request), begun)
        return {**reply, "varying": different} if different else reply

    def _refusal(self, program: Program, reply: Settings) -> ConfigError:
        where = self._invocation.where
        if "unknown" in reply:
            found = reply["unknown"]
            kind = "type" if reply.get("ended") else "key"
            place = f"{where}: {program.name}" + (f".{found['at']}" if found["at"] else "")
            return ConfigError(unknown(kind, found["key"], found["allowed"], place))
        lines = [line for line in reply["error"].splitlines() if not line.startswith(_HYDRAS_HINT)]
        text = " ".join(" ".join(lines).split()) or reply["said"]
        if reply.get("refused"):
            return ConfigError(f"{where}: {program.name}: {text}")
        if reply.get("ended") and self._kind == "type":
            return ConfigError(f"{where}: {program.name} cannot be imported: {text}")
        if reply.get("ended"):
            said = f": {text}" if text else f"; {DECLARE}"
            return ConfigError(f"{where}: {program.name} ended before it {_READS[self._kind]}{said}")
        # A parser's own message begins with the program's name.
        return ConfigError(f"{where}: {text}" if ": error: " in text else f"{where}: {program.name}: {text}")

    def _without_answer(self, program: Program, request: Settings, how: str, late: bool = False) -> Settings:
        """What is left where a process gave no answer: an error, and of Hydra its own command first."""
        process = self._processes[program].pop()
        said = process.said()
        process.close()
        where = self._invocation.where
        if self._kind == "hydra" and process.reached is not None:
            self.close()
            self._processes[program] = []
            return {"values": printed_configuration(self._invocation, program, request["arguments"], self._seconds)}
        if process.reached is None and late:
            raise ConfigError(
                f"{where}: {program.name} has not {_READS[self._kind]} within {self._seconds:g} s; {DECLARE}"
            )
        raise ConfigError(f"{where}: {program.name} {how}" + (f": {said}" if said else "") + f"; {DECLARE}")


@functools.cache
def _sources() -> str:
    """Digest of what runs in the user's interpreter: another version of it may answer otherwise."""
    paths = sorted((Path(__file__).parent / "inside").glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def _values(process: Process) -> Settings | None:
    """The values that a second process answers; None where it could not."""
    try:
        return process.answer().get("values")
    except NoAnswerError:
        return None
