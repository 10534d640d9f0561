"""Calls one function of a stack's commands.py. The context comes as JSON on
stdin; what the function answers goes as JSON to the original stdout, and
everything it prints to stderr."""
import importlib.util
import json
import os
import sys

answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)
event, path = sys.argv[1], sys.argv[2]
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from stack_orchestrator import _given  # noqa: E402

_given.load(json.load(sys.stdin))

from stack_orchestrator.deploy.deployment_context import DeploymentContext  # noqa: E402
from stack_orchestrator.deploy.deploy_types import DeployCommandContext  # noqa: E402

sys.path.insert(1, os.path.dirname(os.path.abspath(path)))
unit = importlib.util.spec_from_file_location("commands", path)
commands = importlib.util.module_from_spec(unit)
unit.loader.exec_module(commands)
function = getattr(commands, event, None)
result = None
if function is not None:
    if event == "init":
        result = function(DeployCommandContext())
    elif event == "create":
        result = function(DeploymentContext(), _given.args())
    else:
        result = function(DeploymentContext())
if event == "init":
    json.dump(result, answer, default=str)
answer.close()
