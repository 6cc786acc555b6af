"""Probes of users' programs, compared with what the programs do when they are run by hand."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from ablative.study.core.errors import ConfigError
from ablative.trainer.program.probes import asking
from ablative.trainer.program.probes.config_file import file_config
from ablative.trainer.program.probes.hydra_command import printed_configuration
from ablative.trainer.program.probes.probe import ProgramProbe, argparse_probe, hydra_probe, type_probe
from ablative.trainer.program.probes.program import Answer, Invocation, Option, split

WHERE = "study.yaml: stages.train"
MAIN = '\nprint(json.dumps(vars(args), default=str))\nopen("trained", "w")\n'
"""How the programs here end: by hand they print what they run with."""


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """The folder of a user's program."""
    folder = tmp_path / "user"
    folder.mkdir()
    return folder


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second process needs not be later than the first, which may be refused before."""
    monkeypatch.setattr(asking, "APART", 0.2)


def invocation(user: Path, **env: str) -> Invocation:
    return Invocation(sys.executable, user, env, WHERE, user.parent / "cache")


def write(user: Path, **files: str) -> None:
    for name, text in files.items():
        write_text(user / f"{name}.py", text)


def write_text(path: Path, text: str) -> None:
    """As if some time ago: a process is not trusted to have read what was written as it started."""
    path.write_text(text)
    os.utime(path, ns=(path.stat().st_mtime_ns - 10**9,) * 2)


def asked(probe: ProgramProbe, *lines: str) -> list[Answer]:
    with probe:
        return [probe.resolve(line.split()) for line in lines]


def refused(probe: ProgramProbe, line: str) -> str:
    with probe, pytest.raises(ConfigError) as caught:
        probe.resolve(line.split())
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{WHERE}: ")


def by_hand(user: Path, words: Sequence[str]) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    command = [sys.executable, *words]
    done = subprocess.run(command, check=False, cwd=user, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


COMMON = """
import argparse
common = argparse.ArgumentParser(add_help=False)
common.add_argument("--lr", "-l", type=float, default=0.1)
common.add_argument("--sizes", type=int, nargs="+", default=[1, 2])
common.add_argument("--tag", action="append")
common.add_argument("-v", action="count", default=0)
"""
TRAIN = """
import argparse, json
from pathlib import Path
from common import common

def words(text):
    seen.append(text)
    return ["/".join(seen), text]

seen = []
print("a program may print " * 3)
parser = argparse.ArgumentParser(parents=[common])
parser.add_argument("--amp", action="store_true")
parser.add_argument("--no-amp", dest="amp", action="store_false")
parser.add_argument("--ema", action=argparse.BooleanOptionalAction, default=True)
parser.add_argument("--data", type=Path, default=Path("data"))
parser.add_argument("--words", type=words, default=None)
kinds = parser.add_subparsers(dest="kind", required=True)
small = kinds.add_parser("small")
small.add_argument("--width", type=int, choices=[32, 64], default=64)
kinds.add_parser("large").add_argument("depth", type=int)
args = parser.parse_args()
"""


def test_argparse_gives_what_the_program_runs_with(
    user: Path, at_once: None, capfd: pytest.CaptureFixture[str]
) -> None:
    write(user, common=COMMON, train=TRAIN + MAIN)
    lines = [
        "train.py small",
        "train.py -l 0.5 --sizes 3 4 5 --tag a --tag b -vv --amp --no-ema --data x small --width 32",
        "train.py --words a large 3",
        "train.py --words b --no-amp large 4",
    ]
    answers = asked(argparse_probe(invocation(user), []), *lines)
    assert not (user / "trained").exists()
    assert capfd.readouterr() == ("", "")
    for line, answer in zip(lines, answers, strict=True):
        assert answer.values == json.loads(by_hand(user, line.split()).splitlines()[-1]), line
    options = answers[1].options
    assert options["lr"] == Option(("--lr", "-l"), "value")
    assert options["amp"] == Option(("--amp",), "boolean", negative=("--no-amp",))
    assert options["ema"] == Option(("--ema",), "boolean", negative=("--no-ema",))
    assert options["width"] == Option(("--width",), "value", choices=(32, 64))
    assert {name: options[name].kind for name in ("sizes", "tag", "v", "kind")} == {
        "sizes": "list",
        "tag": "list",
        "v": "count",
        "kind": "value",
    }
    assert answers[2].options["depth"].flags == () and "width" not in answers[2].options


TWO_PARSES = """
import argparse, json, sys, yaml
def main(words):
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--config", default="")
    known, rest = first.parse_known_args(words)
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    if known.config:
        with open(known.config) as file:
            parser.set_defaults(**yaml.safe_load(file))
    return parser.parse_args(rest)
if __name__ == "__main__":
    if "--slow" in sys.argv:
        sys.argv.remove("--slow")
    args = main(sys.argv[1:])
"""


def test_a_program_that_parses_twice_runs_as_a_module(user: Path, at_once: None) -> None:
    (user / "pkg").mkdir()
    write(user / "pkg", __init__="", train=TWO_PARSES + "    " + MAIN.strip().replace("\n", "\n    "))
    (user / "high.yaml").write_text("lr: 0.7\n")
    lines = [f"-m pkg.train{end}" for end in ("", " --config high.yaml", " --lr 2 --slow --config high.yaml")]
    answers = asked(argparse_probe(invocation(user), []), *lines)
    assert [answer.values["lr"] for answer in answers] == [0.1, 0.7, 2.0]
    for line, answer in zip(lines, answers, strict=True):
        assert answer.values.items() >= json.loads(by_hand(user, line.split()).splitlines()[-1]).items(), line
    write_text(user / "high.yaml", "lr: 0.8\n")
    assert [answer.values["lr"] for answer in asked(argparse_probe(invocation(user), []), *lines)] == [0.1, 0.8, 2.0]


DISPATCH = """
import argparse, json, sys
parser = argparse.ArgumentParser()
if sys.argv[1] == "fit":
    parser.add_argument("--lr", default=1)
else:
    parser.add_argument("--ckpt", default="last")
args = parser.parse_args(sys.argv[2:])
"""


def test_a_program_that_looks_at_its_words_goes_another_way_for_others(user: Path, at_once: None) -> None:
    write(user, train=DISPATCH + MAIN)
    fit, test, again = asked(
        argparse_probe(invocation(user), []), "train.py fit", "train.py test", "train.py fit --lr 2"
    )
    assert (fit.values, test.values, again.values) == ({"lr": 1}, {"ckpt": "last"}, {"lr": "2"})


PLAIN = "import argparse, json\nparser = argparse.ArgumentParser()\n"
ENDS = {
    f"{PLAIN}parser.add_argument('--lr', type=float)\nargs = parser.parse_args()": (
        "train.py: error: argument --lr: invalid float value: 'high'"
    ),
    f"{PLAIN}args, others = parser.parse_known_args()": "train.py: error: its parser leaves over: --lr high",
    "import click\n@click.command()\n@click.option('--lr')\ndef main(lr): open('trained', 'w')\nmain()": (
        "train.py: it has click parse its command line, and its configuration cannot be read; declare the values in "
        "the study instead, `config: {key: value}`"
    ),
    "import sys\nprint('no data here')\nsys.exit(3)": (
        "train.py ended before it parsed its command line with argparse: no data here"
    ),
    "import sys\nsys.exit('set DATA')": "train.py ended before it parsed its command line with argparse: set DATA",
    "import json, no_such_library": (
        "train.py ended before it parsed its command line with argparse: train.py:1: ModuleNotFoundError: "
        "No module named 'no_such_library'"
    ),
    "import json\nx = (": "train.py ended before it parsed its command line with argparse: train.py:2: SyntaxError: "
    "'(' was never closed",
    "": "train.py ended before it parsed its command line with argparse; declare the values in the study instead, "
    "`config: {key: value}`",
    "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)": (
        "train.py ended without an answer (killed by SIGSEGV); declare the values in the study instead, "
        "`config: {key: value}`"
    ),
    "import time\nwhile True: time.sleep(1)": "train.py has not parsed its command line with argparse within 2 s; "
    "declare the values in the study instead, `config: {key: value}`",
}


@pytest.mark.parametrize("program", ENDS, ids=[message[:40] for message in ENDS.values()])
def test_a_program_that_cannot_be_read_is_refused_in_one_line(program: str, user: Path, at_once: None) -> None:
    write(user, train=program)
    probe = argparse_probe(invocation(user), [], seconds=2 if "sleep" in program else 60)
    assert refused(probe, "train.py --lr high") == ENDS[program]
    assert not (user / "trained").exists()


OWN_PARSER = """
class Parser(argparse.ArgumentParser):
    def parse_args(self, args=None, namespace=None):
        found = super().parse_args(args, namespace)
        found.steps = found.epochs * 100
        return found
parser = Parser()
parser.add_argument("--epochs", type=int, default=3)
args = parser.parse_args()
"""


def test_a_parser_of_the_programs_own_class_is_asked_as_it_parses(user: Path, at_once: None) -> None:
    write(user, train=PLAIN + OWN_PARSER + MAIN)
    (answer,) = asked(argparse_probe(invocation(user), []), "train.py --epochs 2")
    assert answer.values == json.loads(by_hand(user, ["train.py", "--epochs", "2"])) == {"epochs": 2, "steps": 200}


REQUIRED = """
parser.add_argument("--data", required=True)
kinds = parser.add_subparsers(dest="kind")
fit = kinds.add_parser("fit")
fit.add_argument("--lr", type=float, required=True)
args = parser.parse_args()
"""


def test_options_are_known_where_the_command_lacks_required_ones(user: Path, at_once: None) -> None:
    write(user, train=PLAIN + REQUIRED)
    for _ in range(2):
        with argparse_probe(invocation(user), []) as probe:
            words = ["train.py", "--data", "a", "fit"]
            assert probe.options(words)["lr"] == Option(("--lr",), "value")
            assert probe.resolve([*words, "--lr", "1"]).values == {"data": "a", "kind": "fit", "lr": 1.0}
            with pytest.raises(ConfigError, match=r"train.py fit: error: the following arguments are required: --lr"):
                probe.resolve(words)


def test_words_that_are_no_program_and_an_interpreter_that_is_none(user: Path) -> None:
    assert split(["-u", "-W", "ignore", "a.py", "-m"], WHERE)[1] == ["-m"]
    assert split(["-mpkg.a", "x"], WHERE)[0].target == ("-m", "pkg.a")
    assert "expected a script or `-m MODULE`" in refused(argparse_probe(invocation(user), []), "-c pass")
    assert refused(argparse_probe(Invocation("pyhton3", user, {}, WHERE, user), []), "a.py").startswith(
        "python: 'pyhton3'"
    )
    assert "there is no interpreter" in refused(
        argparse_probe(Invocation("no/python", user, {}, WHERE, user), []), "a.py"
    )
    assert "No such file" in refused(argparse_probe(invocation(user), []), "absent.py")


VARYING = """
parser.add_argument("--name", default=time.strftime("run_%Y-%m-%d_%H-%M-%S"))
parser.add_argument("--day", default=time.strftime("%Y%m%d"))
parser.add_argument("--out", default=os.path.join(os.getcwd(), "out"))
parser.add_argument("--workers", type=int, default=min(8, os.cpu_count()))
parser.add_argument("--seed", type=int, default=random.randrange(10**9))
parser.add_argument("--order", default="".join({"a", "b", "c", "d", "e", "f", "g", "h"}))
parser.add_argument("--width", type=int, default=8)
args = parser.parse_args()
"""


def test_values_that_depend_on_time_folder_chance_or_cores_are_refused(user: Path) -> None:
    write(user, train=f"import os, random, time\n{PLAIN}{VARYING}")
    message = refused(argparse_probe(invocation(user), ["n*"]), "train.py")
    assert "write `unhashed: [day, order, out, seed, workers]`" in message and "and 1 more" in message
    # What a plan refused, the next one refuses from what was kept.
    assert refused(argparse_probe(invocation(user), ["n*"]), "train.py") == message
    unhashed = ["name", "day", "out", "worker?", "s*", "order"]
    assert asked(argparse_probe(invocation(user), unhashed), "train.py")[0].values["width"] == 8
    given = "train.py --name a --day 2026 --out b --workers 1 --seed 1 --order x"
    assert asked(argparse_probe(invocation(user), []), given)[0].values["name"] == "a"


COUNTED = """
with open(os.environ["STARTS"], "a") as file:
    file.write("x")
"""


def test_answers_are_kept_until_something_that_they_depend_on_is_edited(user: Path, at_once: None) -> None:
    (user / "nets").mkdir()
    write(user, defaults="LR = 0.1", train=f"import defaults, os, yaml\n{COUNTED}{PLAIN}" + """
parser.add_argument("--lr", default=defaults.LR)
parser.add_argument("--width", default=yaml.safe_load(open("base.yaml"))["width"])
parser.add_argument("--data", default=os.environ.get("DATA"))
parser.add_argument("--net", choices=[name[:-5] for name in os.listdir("nets")])
args = parser.parse_args()
""")  # fmt: skip
    write_text(user / "base.yaml", "width: 8\n")
    (user / "nets" / "vit.yaml").write_text("")

    counted = user.parent / "starts"
    counted.touch()

    def starts(line: str = "train.py", **env: str) -> tuple[int, object]:
        before = counted.stat().st_size
        (answer,) = asked(argparse_probe(invocation(user, STARTS=str(counted), **env), []), line)
        return counted.stat().st_size - before, answer.values

    base = {"lr": 0.1, "width": 8, "data": None, "net": None}
    assert starts() == (2, base)
    assert starts() == (0, base)
    for path in user.glob("*.py"):
        os.utime(path)
    assert starts() == (0, base)
    write(user, defaults="LR = 0.2")
    # Python takes byte code of the same second and size for that of the file.
    seconds = (user / "defaults.py").stat().st_mtime - 2  # a time to come would be that of a file that may still change
    os.utime(user / "defaults.py", (seconds, seconds))
    assert starts() == (2, base | {"lr": 0.2})
    write_text(user / "base.yaml", "width: 9\n")
    assert starts() == (2, base | {"lr": 0.2, "width": 9})
    assert starts(DATA="/sets") == (2, base | {"lr": 0.2, "width": 9, "data": "/sets"})
    (user / "nets" / "resnet.yaml").write_text("")
    assert starts("train.py --net resnet") == (2, base | {"lr": 0.2, "width": 9, "net": "resnet"})
    (user / "unrelated.txt").write_text("x")
    assert starts("train.py --net resnet")[0] == 0


APP = """
import hydra
from omegaconf import OmegaConf
OmegaConf.register_new_resolver("twice", lambda x: 2 * x)

@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    raise SystemExit("it trains")

if __name__ == "__main__":
    main()
"""
CONF = {
    "config.yaml": "defaults: [model: lr, optional extra: none, _self_]\nseed: 0\nlr: 1e-3\n"
    "double: ${twice:${model.width}}\npaths: {root: data}\nname: ${model.name}_${seed}\nnothing: null\nmust: ???\n",
    "model/lr.yaml": "name: logistic\nwidth: 4\n",
    "model/svm.yaml": "name: svm\nwidth: 8\nkernel: rbf\n",
    "db/mysql.yaml": "# @package store\nhost: localhost\nports: [1, 2]\n",
}


@pytest.fixture
def app(user: Path) -> Path:
    (user / "src").mkdir()
    write(user / "src", app=APP)
    for name, text in CONF.items():
        path = user / "src" / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    return user


def test_hydra_gives_what_cfg_job_resolve_prints(app: Path, at_once: None) -> None:
    lines = [
        "src/app.py",
        "src/app.py model=svm model.width=3 seed=4 hydra.run.dir=/n +db=mysql +deep.new=[1,{a:2}] ~paths.root lr=2e-4",
        "src/app.py --config-name=model/svm",
    ]
    answers = asked(hydra_probe(invocation(app), []), *lines)
    for line, answer in zip(lines, answers, strict=True):
        program, arguments = split(line.split(), WHERE)
        assert answer.values == printed_configuration(invocation(app), program, arguments, 60), line
    assert answers[1].values["double"] == 6 and answers[1].values["name"] == "svm_4"
    assert sorted(path.name for path in app.iterdir()) == ["src"]


def test_hydra_refuses_in_its_own_words_and_an_edited_group_gives_another_answer(app: Path, at_once: None) -> None:
    with hydra_probe(invocation(app), []) as probe:
        for line, words in {
            "modle=svm": "src/app.py: Could not override 'modle'. To append to your config use +modle=svm Key 'modle'",
            "model=swm": "src/app.py: In 'config': Could not find 'model/swm' Available options in 'model': lr svm",
            "seed=1,2": "src/app.py: Ambiguous value for argument 'seed=1,2'",
        }.items():
            with pytest.raises(ConfigError) as caught:
                probe.resolve(["src/app.py", line])
            assert str(caught.value).startswith(f"{WHERE}: {words}") and "HYDRA_FULL_ERROR" not in str(caught.value)
        assert probe.resolve(["src/app.py", "model=svm"]).values["model"]["kernel"] == "rbf"
    (app / "src" / "conf" / "model" / "svm.yaml").write_text("name: svm\nwidth: 8\nkernel: linear\n")
    # An optional part of the list of defaults that comes into being.
    (app / "src" / "conf" / "extra").mkdir()
    (app / "src" / "conf" / "extra" / "none.yaml").write_text("more: 1\n")
    (answer,) = asked(hydra_probe(invocation(app), []), "src/app.py model=svm")
    assert (answer.values["model"]["kernel"], answer.values["extra"]) == ("linear", {"more": 1})
    assert "write `config: {hydra: true}`" in refused(argparse_probe(invocation(app), []), "src/app.py")


TEMPLATE = """
defaults: [_self_]
output: ${hydra:runtime.output_dir}
root: ${hydra:runtime.cwd}
"""


def test_hydra_knows_its_output_folder_as_when_it_runs(app: Path, at_once: None) -> None:
    (app / "src" / "conf" / "config.yaml").write_text(TEMPLATE)
    message = refused(hydra_probe(invocation(app), []), "src/app.py hydra.run.dir=/o")
    assert "write `unhashed: [root]`" in message
    (answer,) = asked(hydra_probe(invocation(app), ["root"]), "src/app.py hydra.run.dir=/o")
    assert answer.values == {"output": "/o", "root": str(app)}


TYPES = """
import dataclasses, enum, pathlib, typing

class Norm(enum.Enum):
    LAYER = "layer"
    BATCH = "batch"

@dataclasses.dataclass
class Net:
    width: int = 8
    norm: Norm = Norm.LAYER
    act: typing.Literal["relu", "gelu"] = "relu"

@dataclasses.dataclass
class Config:
    name: str
    lr: float = 0.1
    net: Net = dataclasses.field(default_factory=Net)
    parts: typing.List[Net] = dataclasses.field(default_factory=list)
    data: typing.Optional[pathlib.Path] = None
    steps: int = 0
    def __post_init__(self):
        if self.lr <= 0:
            raise ValueError("lr must be positive")
        self.steps = self.steps or self.net.width * 10
"""
MODELS = """
import pydantic

class Inner(pydantic.BaseModel):
    width: int = 8

class Model(pydantic.BaseModel):
    lr: float = pydantic.Field(0.1, gt=0)
    inner: Inner = Inner()
"""


def test_a_type_is_built_from_values_with_its_own_defaults(user: Path, at_once: None) -> None:
    write(user, conf=TYPES)
    probe = type_probe(invocation(user), [], "conf:Config")
    net = {"width": 8, "norm": "LAYER", "act": "relu"}
    base = {"name": "a", "lr": 0.1, "net": net, "parts": [], "data": None, "steps": 80}
    with probe:
        assert probe.resolve_values({"name": "a"}).values == base
        given = {"name": "a", "lr": 1, "net": {"width": 2, "norm": "batch"}, "parts": [{"act": "gelu"}], "data": "d"}
        parts = [{**net, "act": "gelu"}]
        net = {**net, "width": 2, "norm": "BATCH"}
        expected = {"lr": 1.0, "net": net, "parts": parts, "data": "d", "steps": 20}
        assert probe.resolve_values(given).values == {"name": "a"} | expected
        for values, message in {
            '{"lr": 1}': "conf:Config: name: it has no default, and no value",
            '{"nmae": 1}': "conf:Config: unknown key 'nmae'; did you mean 'name'? (allowed: data, lr, name, net, parts",
            '{"name": "a", "net": {"wdith": 1}}': "conf:Config.net: unknown key 'wdith'; did you mean 'width'?",
            '{"name": "a", "lr": "fast"}': "conf:Config: lr: expected a number, found 'fast'",
            '{"name": "a", "net": {"act": "tanh"}}': "conf:Config: net.act: expected 'relu' or 'gelu', found 'tanh'",
            '{"name": "a", "lr": 0}': "conf:Config: lr must be positive",
        }.items():
            with pytest.raises(ConfigError) as caught:
                probe.resolve_values(json.loads(values))
            assert str(caught.value).startswith(f"{WHERE}: {message}")


def test_models_of_pydantic_and_types_that_are_not_there(user: Path, at_once: None) -> None:
    write(user, conf=TYPES, models=MODELS, broken="import conf\n1 / 0")

    with type_probe(invocation(user), [], "models:Model") as probe:
        assert probe.resolve_values({"inner": {"width": 3}}).values == {"lr": 0.1, "inner": {"width": 3}}
        for values, message in (
            ({"inner": {"wdith": 3}}, "models:Model.inner: unknown key 'wdith'; did you mean 'width'?"),
            ({"lr": -1}, "models:Model: lr: Input should be greater than 0"),
        ):
            with pytest.raises(ConfigError) as caught:
                probe.resolve_values(values)
            assert str(caught.value).startswith(f"{WHERE}: {message}")
    for name, message in {
        "conf:Cofnig": "conf:Cofnig: unknown type 'Cofnig'; did you mean 'Config'?",
        "conf:typing": "conf:typing: it is no dataclass and no model of pydantic",
        "broken:Config": "broken:Config cannot be imported: broken.py:2: ZeroDivisionError",
        "conf": "type: expected `package.module:Class`, found 'conf'",
    }.items():
        with pytest.raises(ConfigError) as caught, type_probe(invocation(user), [], name) as probe:
            probe.resolve_values({})
        assert str(caught.value).startswith(f"{WHERE}: {message}")


def test_a_file_of_the_repository_is_read_here(tmp_path: Path) -> None:
    for name, text in {
        "a.yaml": "lr: 0.1\nnet: {width: [1, 2]}\nday: 2026-01-02\n",
        "a.json": '{"lr": 0.1, "net": {"width": [1, 2]}, "day": "2026-01-02"}',
        "a.toml": "lr = 0.1\nday = 2026-01-02\n[net]\nwidth = [1, 2]\n",
    }.items():
        (tmp_path / name).write_text(text)
        found = file_config(tmp_path / name, WHERE)
        assert found == {"lr": 0.1, "net": {"width": [1, 2]}, "day": "2026-01-02"}
    for name, text, message in (
        ("b.yaml", "a: [1\nb: 2\n", "b.yaml:2: not YAML"),
        ("b.json", '{"a": 1,\n}', "b.json:2: not JSON"),
        ("b.toml", "a = \n", "b.toml: not TOML"),
        ("c.yaml", "- a\n", "c.yaml: expected keys and values, found a list"),
        ("c.ini", "", "c.ini: expected a file in .yaml, .yml, .json, .toml"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
            file_config(tmp_path / name, WHERE)
    with pytest.raises(ConfigError, match="there is no file"):
        file_config(tmp_path / "no.yaml", WHERE)


def test_what_runs_in_the_users_interpreter_is_python_3_8_and_needs_nothing() -> None:
    own = "ablative.trainer.program.probes.inside."
    libraries = {*sys.stdlib_module_names, "hydra", "omegaconf", "click"}
    for path in (Path(asking.__file__).parent / "inside").glob("*.py"):
        tree = ast.parse(path.read_text(), feature_version=(3, 8))
        names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        names += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert all(name.startswith(own) or name.split(".")[0] in libraries for name in names), path
