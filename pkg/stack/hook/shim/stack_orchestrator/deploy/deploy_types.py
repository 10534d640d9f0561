from dataclasses import dataclass, field
from typing import Any, List

from stack_orchestrator import _given


@dataclass
class VolumeMapping:
    host_path: Any
    container_path: Any


@dataclass
class ClusterContext:
    cluster: str = ""
    compose_files: List[str] = field(default_factory=list)
    env_file: Any = None


class DeployCommandContext:
    """What a command of a stack is given before there is a deployment."""

    def __init__(self, stack=None, cluster_context=None, deployer=None):
        self.stack = stack or _given.get("stack_name", "")
        self.cluster_context = cluster_context or ClusterContext(cluster=_given.get("cluster", ""))
        self.deployer = deployer


@dataclass
class LaconicStackSetupCommand:
    node_moniker: str = ""
    chain_id: str = ""
    key_name: str = ""
    gentx_files: Any = None
    gentx_addresses: Any = None
    genesis_file: Any = None
    initialize_network: bool = False
    join_network: bool = False
    connect_network: bool = False
    create_network: bool = False
    network_dir: str = ""


@dataclass
class LaconicStackCreateCommand:
    network_dir: str = ""
