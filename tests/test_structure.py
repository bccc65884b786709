"""What the tree of sources promises, checked on the syntax trees: nothing is imported here.

Who may import whom is DESIGN.md section 2; the habits are those of STYLE.md.
"""

import ast
from collections.abc import Iterator
import functools
from pathlib import Path
import re

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("environments", "networks", "losses", "replay", "agents", "training", "experiments")
INTERFACES = {"agents.interface", "environments.interface", "replay.interface"}

# Module prefixes of ours that a package may import beside its own; None allows all.
MAY_IMPORT = {
  "environments": set(),
  "networks": set(),
  "losses": set(),
  "replay": set(),
  "agents": {"networks", "losses", "environments.interface", "replay.interface"},
  "training": INTERFACES | {"replay.factory"},
  "experiments": None,
}
# Agent packages that extend another agent's algorithm.
EXTENSIONS = {"ppg": {"ppo"}}

# What makes `--help` slow: a configuration and a command line are read without any of it.
HEAVY = {
  "jax", "jaxlib", "flax", "optax", "chex", "orbax", "mctx", "haiku",
  "tensorboardX", "matplotlib", "pandas", "rliable", "procgen",
}  # fmt: skip
LIGHT_COMMANDS = {
  f"experiments.{name}"
  for name in ("command_line", "options", "config", "presets", "registry", "errors")
}
COMMANDS = ("train", "compare", "evaluate", "imagine", "report", "benchmark", "sweep")

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60
MAX_NESTING = 2
MAX_POSITIONAL = 4
Function = ast.FunctionDef | ast.AsyncFunctionDef


@functools.cache
def sources() -> dict[str, Path]:
  """Returns every source file by module name."""
  found = {}
  for package in PACKAGES:
    for path in sorted((ROOT / package).rglob("*.py")):
      parts = path.relative_to(ROOT).with_suffix("").parts
      found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
  return found


@functools.cache
def tree_of(path: Path) -> ast.Module:
  """Parses a file."""
  return ast.parse(path.read_text(), str(path))


def imports_of(nodes) -> Iterator[tuple[str, int]]:
  """Yields (module or module.name, line) of every import among `nodes`."""
  for node in nodes:
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield alias.name, node.lineno
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"relative import in line {node.lineno}"
      for alias in node.names:
        yield f"{node.module}.{alias.name}", node.lineno


def module_of(name: str) -> str | None:
  """Returns the module of ours that an imported name is or is in, or None."""
  if name.split(".")[0] not in PACKAGES:
    return None
  while name not in sources() and "." in name:
    name = name.rpartition(".")[0]
  return name


def executed_imports(path: Path) -> Iterator[tuple[str, int]]:
  """Yields the imports that importing a file executes: not in functions, not for type checks."""

  def body(nodes):
    for node in nodes:
      if isinstance(node, (ast.Import, ast.ImportFrom)):
        yield node
      elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        yield from body(node.orelse)
      elif not isinstance(node, Function):
        yield from body(child for child in ast.iter_child_nodes(node))

  yield from imports_of(body(tree_of(path).body))


def functions_of(path: Path) -> Iterator[tuple[Function, int, ast.AST]]:
  """Yields every function of a file with its depth among functions, and what holds it."""

  def walk(node, depth):
    for child in ast.iter_child_nodes(node):
      if isinstance(child, Function):
        yield child, depth + 1, node
        yield from walk(child, depth + 1)
      else:
        yield from walk(child, depth)

  yield from walk(tree_of(path), 0)


def agent_packages() -> list[str]:
  """Returns the names of the agents' packages."""
  return sorted(path.parent.name for path in (ROOT / "agents").glob("*/__init__.py"))


def where(path: Path, line: int) -> str:
  """Returns `file:line`, as an editor takes it."""
  return f"{path.relative_to(ROOT)}:{line}"


def refuse(problems: list[str], rule: str) -> None:
  """Fails with the rule and every place that breaks it."""
  assert not problems, f"{rule}:\n  " + "\n  ".join(problems)


def test_the_walk_finds_the_house():
  assert {"training.loop", "agents.interface", "experiments.runner", "agents"} <= set(sources())
  assert "ppo" in agent_packages()
  assert all(any(m.split(".")[0] == package for m in sources()) for package in PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package):
  allowed, problems = MAY_IMPORT[package], []
  if allowed is None:
    return
  for module, path in sources().items():
    if module.split(".")[0] != package:
      continue
    for name, line in imports_of(ast.walk(tree_of(path))):
      target = module_of(name)
      if target is None or target.split(".")[0] == package:
        continue
      if not any(target == each or target.startswith(f"{each}.") for each in allowed):
        problems.append(f"{where(path, line)} imports {target}")
  refuse(problems, f"{package} may import of ours only {sorted(allowed) or 'nothing'}")


def test_agents_import_one_another_only_as_extensions():
  problems = []
  for module, path in sources().items():
    own = module.split(".")[1] if module.startswith("agents.") else None
    if module.split(".")[0] == "experiments":
      continue
    for name, line in imports_of(ast.walk(tree_of(path))):
      target = (module_of(name) or "").split(".")
      if target[0] != "agents" or len(target) < 2 or target[1] not in agent_packages():
        continue
      if target[1] != own and target[1] not in EXTENSIONS.get(own, ()):
        problems.append(f"{where(path, line)} imports {'.'.join(target)}")
  refuse(problems, "only an agent that extends another may import it")


@pytest.mark.parametrize("package", ["training", "replay"])
def test_no_agents_name_where_agents_are_not_known(package):
  names = re.compile(rf"(?<![a-z])({'|'.join(agent_packages())})(?![a-z])", re.IGNORECASE)
  problems = []
  for module, path in sources().items():
    if module.split(".")[0] == package:
      for number, text in enumerate(path.read_text().splitlines(), 1):
        problems += [f"{where(path, number)} says {m.group(0)!r}" for m in names.finditer(text)]
  refuse(problems, f"{package} names no agent")


def test_agents_know_no_device_thread_or_file():
  forbidden = {"os", "pathlib", "threading", "multiprocessing", "queue", "io", "jax.sharding"}
  problems = [
    f"{where(path, line)} imports {name}"
    for module, path in sources().items()
    if module.split(".")[0] in ("agents", "losses", "networks")
    for name, line in imports_of(ast.walk(tree_of(path)))
    if any(name == each or name.startswith(f"{each}.") for each in forbidden)
  ]
  refuse(problems, "agents, losses and networks are pure functions of arrays")


def test_device_code_is_in_one_place():
  forbidden = {"device_put", "shard_map", "NamedSharding", "PartitionSpec", "pmap"}
  problems = []
  for module, path in sources().items():
    if module.split(".")[0] not in ("agents", "training") or module == "training.sharding":
      continue
    for node in ast.walk(tree_of(path)):
      name = getattr(node, "attr", getattr(node, "id", None))
      if name in forbidden:
        problems.append(f"{where(path, node.lineno)} uses {name}")
  refuse(problems, "all device code is in training/sharding.py")


def test_configurations_and_command_lines_are_light():
  """Walks what importing each of them executes, packages' own `__init__` files included."""

  def closure(module, chain):
    if module in seen:
      return
    seen.add(module)
    path = sources()[module]
    for name, line in executed_imports(path):
      if name.split(".")[0] in HEAVY:
        problems.append(f"{where(path, line)} imports {name}, reached by {' > '.join(chain)}")
      target = module_of(name)
      if target is not None:
        parts = target.split(".")
        for end in range(1, len(parts) + 1):
          closure(".".join(parts[:end]), [*chain, target])

  problems, light = [], set(LIGHT_COMMANDS)
  light |= {module for module in sources() if module.split(".")[-1] == "config"}
  light |= {f"experiments.{name}" for name in COMMANDS if f"experiments.{name}" in sources()}
  assert len(light) > 10
  for module in sorted(light):
    seen = set()
    closure(module, [module])
  refuse(sorted(set(problems)), "a configuration is read and help is given without JAX")


def test_everything_public_has_a_docstring():
  problems = []
  for path in sources().values():
    if ast.get_docstring(tree_of(path)) is None:
      problems.append(f"{where(path, 1)} the module")
    hidden = {
      id(child)
      for node in ast.walk(tree_of(path))
      if isinstance(node, ast.ClassDef) and node.name.startswith("_")
      for child in node.body
    }
    public = [
      node
      for node in ast.walk(tree_of(path))
      if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    public += [
      function
      for function, depth, _ in functions_of(path)
      if depth == 1 and not function.name.startswith("_") and id(function) not in hidden
    ]
    problems += [
      f"{where(path, node.lineno)} {node.name}"
      for node in public
      if ast.get_docstring(node) is None and not is_overload_of_a_library(node)
    ]
  refuse(problems, "everything public has a docstring")


def is_overload_of_a_library(node: ast.AST) -> bool:
  """Whether a method is one that a library calls by name and documents itself."""
  return node.name in ("error", "setup", "emit")


def test_sizes():
  problems = []
  for path in sources().values():
    lines = len(path.read_text().splitlines())
    if lines > MAX_FILE_LINES:
      problems.append(f"{where(path, 1)} has {lines} lines")
    for function, depth, _ in functions_of(path):
      length = function.end_lineno - function.lineno + 1
      place = f"{where(path, function.lineno)} {function.name}"
      if length > MAX_FUNCTION_LINES:
        problems.append(f"{place} has {length} lines")
      if depth > MAX_NESTING:
        problems.append(f"{place} is nested {depth} deep")
      arguments = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
      positional = [name for name in arguments if name not in ("self", "cls")]
      if len(positional) > MAX_POSITIONAL:
        problems.append(f"{place} has {len(positional)} positional arguments")
  refuse(
    problems,
    f"files have at most {MAX_FILE_LINES} lines, functions {MAX_FUNCTION_LINES} lines, "
    f"{MAX_POSITIONAL} positional arguments and depth {MAX_NESTING}",
  )


def test_no_vague_module_names():
  vague = {"utils", "util", "helpers", "misc", "common"}
  problems = [m for m in sources() if m.split(".")[-1] in vague]
  refuse(problems, "a module is named after what it holds")


def test_nothing_is_put_off():
  # Written in two halves, so that this file does not find itself.
  halves = [("TO", "DO"), ("FIX", "ME"), ("XX", "X"), ("HA", "CK")]
  words = re.compile(rf"\b({'|'.join(a + b for a, b in halves)})\b")
  files = [*sources().values(), *(ROOT / "tests").rglob("*.py"), *ROOT.glob("*.md")]
  problems = [
    f"{where(path, number)} {text.strip()}"
    for path in files
    for number, text in enumerate(path.read_text().splitlines(), 1)
    if words.search(text)
  ]
  refuse(problems, "what is not done is not promised in a comment")


def test_no_inheritance_between_concrete_classes():
  classes = {
    node.name: [ast.unparse(base) for base in node.bases]
    for path in sources().values()
    for node in ast.walk(tree_of(path))
    if isinstance(node, ast.ClassDef)
  }

  def is_error(name):
    return name.endswith(("Error", "Exception")) or any(map(is_error, classes.get(name, ())))

  problems = [
    f"{name}({base})"
    for name, bases in classes.items()
    for base in bases
    if base.split(".")[-1] in classes and not is_error(base) and "Protocol" not in classes[base]
  ]
  refuse(problems, "no concrete class inherits from another")


def config_classes() -> Iterator[tuple[ast.ClassDef, Path]]:
  """Yields the dataclasses that a user or an agent fills in."""
  for module, path in sources().items():
    if module.split(".")[-1] == "config" or module in ("replay.interface", "agents.interface"):
      for node in tree_of(path).body:
        decorators = [ast.unparse(each) for each in getattr(node, "decorator_list", ())]
        if isinstance(node, ast.ClassDef) and any("dataclass" in each for each in decorators):
          yield node, path


def test_every_option_is_read():
  """A field counts as read where `.field` stands outside the checks of its own class."""

  def is_check(function):
    return function.name == "__post_init__" or function.name.startswith(("check", "_check"))

  read = set()
  for path in sources().values():
    own_checks = set()
    for node in ast.walk(tree_of(path)):
      if isinstance(node, ast.ClassDef):
        for function in node.body:
          if isinstance(function, Function) and is_check(function):
            own_checks |= {id(each) for each in ast.walk(function)}
    for node in ast.walk(tree_of(path)):
      is_read = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
      if is_read and id(node) not in own_checks:
        read.add(node.attr)
  problems, seen = [], 0
  for node, path in config_classes():
    for statement in node.body:
      if isinstance(statement, ast.AnnAssign):
        seen += 1
        if statement.target.id not in read:
          problems.append(f"{where(path, statement.lineno)} {node.name}.{statement.target.id}")
  assert seen > 30, "the walk found too few options to be right"
  refuse(problems, "an option that nothing reads does nothing")


@pytest.mark.parametrize("agent", agent_packages())
def test_an_agent_lists_where_it_deviates(agent):
  path = ROOT / "agents" / agent / "__init__.py"
  docstring = ast.get_docstring(tree_of(path)) or ""
  rows = [line for line in docstring.splitlines() if line.startswith("|")]
  assert len(rows) >= 3, f"{path} has no table of deviations in its docstring"
  head = [cell.strip() for cell in rows[0].strip("|").split("|")]
  assert head[0] == "detail", f"{where(path, 1)}: the table begins with {head}"
  assert head[2:] == ["here", "why"], f"{where(path, 1)}: the table begins with {head}"
  for row in rows[2:]:
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == len(head), f"{path}: {row}"
    assert all(cells[:-1]), f"{path}: {row}"
    assert cells[-1] or cells[2] == "the same", f"{path} does not say why: {row}"


def test_every_folder_of_modules_is_a_package():
  """Without `__init__.py` a folder is imported from here, but setuptools leaves it out."""
  folders = {path.parent for path in sources().values()}
  problems = [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()]
  refuse(problems, "a folder of modules has an __init__.py")
