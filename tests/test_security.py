"""What SECURITY.md promises of our own code: no line of it runs what came from elsewhere, and none tells a secret.

The rules are looked for in the syntax tree of every source file; each exception is named here with its reason.
`tests/test_hostile_input.py` runs the stages on what means harm.
"""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.run_folder import REPO

# Rule → file → why it may. A file that does not need its exception any more fails the test, too.
ALLOWED: dict[str, dict[str, str]] = {
    "remote code": {
        "trlx/utils/pretrained.py": "off unless a person's options say otherwise",
        "trlx/trainer/setup.py": "off",
        "launch/conf/keys.py": "a key of llm-on-ray's files",
        "launch/conf/translation.py": "that key is refused where it is true",
    },
    "pickled shards": {
        "trlx/trainer/checkpointer.py": "DeepSpeed reads its own ZeRO shards, of a checkpoint whose manifest agrees",
        "trlx/trainer/zero_to_fp32.py": "a script that a person starts on shards of their own",
    },
    "whole environment": {
        "launch/local.py": "a stage inherits it; nothing is written",
        "launch/pipeline/hosts.py": "inherited by the shell to another machine, which is told some names alone",
        "benchmarks/plan_memory.py": "inherited by the process that is measured",
    },
    "markup": {"evaluation/report/page.py": "our own style and script, and JSON escaped for a script element"},
}


def sources() -> list[Path]:
    """Python files that are tracked, or new and not ignored; without tests."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.py"], cwd=REPO, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    names = sorted(set(listed.stdout.split()))
    return [REPO / name for name in names if not name.startswith("tests/") and (REPO / name).is_file()]


def called(node: ast.Call) -> str:
    """`torch.load` for such a call; the last part of what has no plain name in front."""
    target, parts = node.func, []
    while isinstance(target, ast.Attribute):
        parts.append(target.attr)
        target = target.value
    return ".".join([target.id if isinstance(target, ast.Name) else "", *reversed(parts)])


def given(node: ast.Call, name: str) -> object:
    """The constant value of a keyword; `...` where it is absent, None where it is no constant."""
    for keyword in node.keywords:
        if keyword.arg == name:
            return keyword.value.value if isinstance(keyword.value, ast.Constant) else None
    return ...


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    return ((node, called(node)) for node in ast.walk(tree) if isinstance(node, ast.Call))


def imported(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, name.name) for name in node.names)
        if isinstance(node, ast.ImportFrom):
            yield from ((node, f"{node.module}.{name.name}") for name in node.names)


def pickles(tree: ast.AST) -> Iterator[ast.AST]:
    """torch.load without weights_only=True, np.load without allow_pickle=False, and every module of the kind."""
    loaders = {"pickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    yield from (node for node, name in imported(tree) if name.split(".")[0] in loaders)
    for node, name in calls(tree):
        if name == "torch.load" and given(node, "weights_only") is not True:
            yield node
        if name in ("np.load", "numpy.load") and given(node, "allow_pickle") is not False:
            yield node
        if name.endswith(".read_pickle") or name.startswith("torch.hub."):
            yield node


def pickled_shards(tree: ast.AST) -> Iterator[ast.AST]:
    """What hands a path to a library that unpickles freely."""
    readers = ("load_checkpoint", "load_state", "get_fp32_state_dict_from_zero_checkpoint")
    return (node for node, name in calls(tree) if name.rpartition(".")[2] in readers and "self.store" not in name)


def evaluation_of_text(tree: ast.AST) -> Iterator[ast.AST]:
    """eval, exec, compile; YAML by another loader than the safe one."""
    for node, name in calls(tree):
        if name in ("eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec"):
            yield node
        if name in ("yaml.load", "yaml.load_all") and not _is_safe_loader(node):
            yield node
        if name in ("yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all", "yaml.full_load_all"):
            yield node
    unsafe = {"yaml.Loader", "yaml.FullLoader", "yaml.UnsafeLoader"}
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node) in unsafe)


def _is_safe_loader(node: ast.Call) -> bool:
    named = [*node.args[1:2], *(keyword.value for keyword in node.keywords if keyword.arg == "Loader")]
    return any(ast.unparse(one) in ("yaml.SafeLoader", "yaml.CSafeLoader") for one in named)


def shells(tree: ast.AST) -> Iterator[ast.AST]:
    """A command line that a shell would read."""
    for node, name in calls(tree):
        if given(node, "shell") not in (..., False) or name in ("os.system", "os.popen", "subprocess.getoutput"):
            yield node


def remote_code(tree: ast.AST) -> Iterator[ast.AST]:
    """trust_remote_code in any place: as a keyword, a key or a name."""
    for node in ast.walk(tree):
        words = [getattr(node, field, None) for field in ("arg", "id", "attr", "value")]
        if "trust_remote_code" in [word for word in words if isinstance(word, str)]:
            yield node


def whole_environment(tree: ast.AST) -> Iterator[ast.AST]:
    """os.environ as a whole, which holds tokens, rather than one variable of it."""
    single = {"get", "setdefault", "pop", "update"}
    parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "os.environ":
            around = parents[node]
            one = isinstance(around, ast.Subscript | ast.Compare) or getattr(around, "attr", None) in single
            if not one:
                yield node


def markup(tree: ast.AST) -> Iterator[ast.AST]:
    """HTML that is not escaped: Markup, and Jinja without autoescape."""
    for node, name in calls(tree):
        last = name.rpartition(".")[2]
        if last == "Markup" or (last in ("Environment", "Template") and given(node, "autoescape") is not True):
            yield node


RULES: dict[str, Callable[[ast.AST], Iterator[ast.AST]]] = {
    "pickles": pickles,
    "pickled shards": pickled_shards,
    "evaluation of text": evaluation_of_text,
    "shells": shells,
    "remote code": remote_code,
    "whole environment": whole_environment,
    "markup": markup,
}


@pytest.mark.parametrize("rule", RULES)
def test_no_source_file_breaks_a_rule_but_the_named_ones(rule: str) -> None:
    found: dict[str, list[int]] = {}
    for path in sources():
        lines = [getattr(node, "lineno", 0) for node in RULES[rule](ast.parse(path.read_text(encoding="utf-8")))]
        if lines:
            found[path.relative_to(REPO).as_posix()] = lines
    allowed = ALLOWED.get(rule, {})
    assert {name: lines for name, lines in found.items() if name not in allowed} == {}
    assert {name for name in allowed if (REPO / name).exists()} <= set(found), "an exception that nobody needs"


BAD = {
    "pickles": [
        *("import pickle", "torch.load(p)", "torch.load(p, weights_only=False)", "np.load(p)"),
        *("np.load(p, allow_pickle=True)", "from joblib import load", "pd.read_pickle(p)"),
    ],
    "pickled shards": ["engine.load_checkpoint(p)", "accelerator.load_state(p)"],
    "evaluation of text": [
        *("eval(t)", "exec(t)", "yaml.load(t)", "yaml.load(t, yaml.FullLoader)", "yaml.full_load(t)"),
        *("yaml.load(t, Loader=Mine)", "class L(yaml.UnsafeLoader): pass"),
    ],
    "shells": ["run(c, shell=True)", "run(c, shell=x)", "os.system(c)"],
    "remote code": ["f(trust_remote_code=True)", "d = {'trust_remote_code': 1}", "x = d['trust_remote_code']"],
    "whole environment": ["dict(os.environ)", "{**os.environ}", "os.environ.copy()", "print(os.environ)"],
    "markup": ["Markup(t)", "Environment(loader=l)", "jinja2.Template(t)", "Environment(autoescape=x)"],
}
GOOD = """
torch.load(p, weights_only=True); np.load(p, allow_pickle=False); yaml.safe_load(t); model.eval(); re.compile(t)
yaml.load(t, Loader=yaml.SafeLoader); run([c], shell=False); run([c]); os.environ["A"]; os.environ.get("A")
"A" in os.environ; Environment(autoescape=True); self.store.load_state(s)
"""


@pytest.mark.parametrize(("rule", "line"), [(rule, line) for rule, lines in BAD.items() for line in lines])
def test_each_rule_sees_what_it_is_about(rule: str, line: str) -> None:
    assert list(RULES[rule](ast.parse(line)))


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_minds_what_is_sound(rule: str) -> None:
    assert not list(RULES[rule](ast.parse(GOOD)))


def test_the_page_marks_nothing_as_safe_but_what_is() -> None:
    """In the template itself: no filter that switches escaping off."""
    template = (REPO / "evaluation" / "report" / "template.html.j2").read_text(encoding="utf-8")
    assert "|safe" not in template.replace(" ", "") and "autoescape" not in template
    unescaped = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(")
    for script in (REPO / "evaluation" / "report" / "inspector").glob("*.js"):
        text = script.read_text(encoding="utf-8")
        assert not [word for word in unescaped if word in text], script


def test_what_is_promised_is_written_down() -> None:
    text = (REPO / "SECURITY.md").read_text(encoding="utf-8")
    for word in ("trust_remote_code", "weights_only", "safetensors", "ZeRO", "manifest", "YAML", "report"):
        assert word in text
