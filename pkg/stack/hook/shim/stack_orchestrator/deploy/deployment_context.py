from pathlib import Path

from stack_orchestrator import _given, util


class _Mapping:
    """A file of the deployment as a mapping."""

    def __init__(self, values, file_path):
        self.obj = values or {}
        self.file_path = file_path

    def __getitem__(self, key):
        return self.obj[key]

    def __contains__(self, key):
        return key in self.obj

    def get(self, key, default=None):
        found = self.obj.get(key)
        return default if found is None else found


class _Stack(_Mapping):
    def __init__(self, values, file_path, name):
        super().__init__(values, file_path)
        self.name = name


class _Spec(_Mapping):
    def __getattr__(self, name):
        # get_image_registry() is the key image-registry, and so on.
        if name.startswith("get_"):
            return lambda: self.get(name[len("get_"):].replace("_", "-"), {} if name.endswith("s") else None)
        raise AttributeError(name)

    def get_http_proxy(self):
        return self.get("network", {}).get("http-proxy", [])

    def get_acme_email(self):
        return self.get("network", {}).get("acme-email", "")

    def get_container_resources(self):
        return self.get("resources", {}).get("containers", {})

    def get_volume_resources(self):
        return self.get("resources", {}).get("volumes", {})

    def get_privileged(self):
        return bool(self.get("security", {}).get("privileged", False))

    def get_capabilities(self):
        return self.get("security", {}).get("capabilities", [])

    def get_replicas(self):
        return self.get("replicas", 1)

    def get_deployment_type(self):
        return self.get("deploy-to", "compose")

    def is_kubernetes_deployment(self):
        return self.get_deployment_type() in ("k8s", "k8s-kind")

    def is_kind_deployment(self):
        return self.get_deployment_type() == "k8s-kind"

    def is_docker_deployment(self):
        return self.get_deployment_type() == "compose"


class DeploymentContext:
    def __init__(self):
        self.deployment_dir = Path(_given.get("dir", "."))
        self.id = _given.get("cluster", "")
        self.deployment_id = _given.get("id", "")
        self.namespace = _given.get("namespace", "")
        self.spec = _Spec(_given.get("spec"), self.get_spec_file())
        self.stack = _Stack(_given.get("stack"), self.get_stack_file(), _given.get("stack_name", ""))

    def get_stack_file(self):
        return self.deployment_dir / "stack.yml"

    def get_spec_file(self):
        return self.deployment_dir / "spec.yml"

    def get_env_file(self):
        return self.deployment_dir / "config.env"

    def get_deployment_file(self):
        return self.deployment_dir / "deployment.yml"

    def get_compose_dir(self):
        return self.deployment_dir / "compose"

    def get_compose_file(self, name):
        return self.get_compose_dir() / ("docker-compose-%s.yml" % name)

    def get_config_dir(self):
        return self.deployment_dir / "config"

    def get_data_dir(self):
        return self.deployment_dir / "data"

    def get_cluster_id(self):
        return self.id

    def get_deployment_id(self):
        return self.deployment_id

    def get_namespace(self):
        return self.namespace

    def modify_yaml(self, file_path, modifier_func):
        path = Path(file_path)
        if not path.resolve().is_relative_to(self.deployment_dir.resolve()):
            raise ValueError("%s is not in the deployment directory" % path)
        data = util.read_yaml(path)
        modifier_func(data)
        util.write_yaml(path, data)
