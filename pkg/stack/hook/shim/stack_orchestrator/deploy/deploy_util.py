import os
import subprocess

from stack_orchestrator import _given
from stack_orchestrator.deploy.deploy_types import VolumeMapping  # noqa: F401


def run_container_command(ctx, service, command, mounts=None):
    """Runs a shell command in a fresh container of a service's image, as the
    user who runs the hook; returns what it printed and its exit code."""
    image = _given.get("images", {}).get(service)
    if not image:
        raise ValueError("no service " + str(service) + " has an image")
    line = ["docker", "run", "--rm", "--entrypoint", "sh", "--user", "%d:%d" % (os.getuid(), os.getgid())]
    for mount in mounts or []:
        line += ["--volume", "%s:%s" % (mount.host_path, mount.container_path)]
    done = subprocess.run(line + [image, "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise RuntimeError("%s: exit status %d: %s" % (service, done.returncode, done.stdout.strip()))
    return done.stdout, done.returncode
