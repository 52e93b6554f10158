#!/usr/bin/env bash
# The first process of one node of the test cluster, in process and mount namespaces of its own: a containerd and a kubelet, on the network of the
# machine. usage: cluster-node.sh FOLDER NAME PORT LABELS PAUSE-IMAGE
set -euo pipefail
folder=$1 name=$2 port=$3 labels=$4 pause=$5
cgroup=veneer-node-$port
# A name that is an address is where the API server asks for logs.
case $name in 127.*) address=$name ;; *) address=127.0.0.1 ;; esac
mkdir -p "$folder"/{etc/cni,certs,log,kubelet,containerd,sysctl,plugins}

mount --make-rshared /
mount --bind "$folder/log" /var/log
# The folder of device plugins in it is not to be configured.
mkdir -p /var/lib/kubelet
mount --bind "$folder/kubelet" /var/lib/kubelet
mount -t tmpfs -o mode=755 tmpfs /run

# The kubelet insists on three settings of the kernel: it is given files that have them, and those of the machine stay.
number=0
for setting in vm/overcommit_memory=1 kernel/panic=10 kernel/panic_on_oops=1; do
  echo "${setting#*=}" >"$folder/sysctl/$number"
  mount --bind "$folder/sysctl/$number" "/proc/sys/${setting%=*}"
  number=$((number + 1))
done

# All that runs on the node is below one cgroup, in each hierarchy where there are several.
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control || true
  done
  mkdir -p "/sys/fs/cgroup/$cgroup"
else
  for hierarchy in /sys/fs/cgroup/*/; do
    [ -e "$hierarchy/cgroup.procs" ] && mkdir -p "$hierarchy/$cgroup"
  done
  for file in cpus mems; do
    cat "/sys/fs/cgroup/cpuset/cpuset.$file" >"/sys/fs/cgroup/cpuset/$cgroup/cpuset.$file"
  done
fi

echo '{"cniVersion":"0.4.0","name":"lo","plugins":[{"type":"loopback"}]}' >"$folder/etc/cni/10-lo.conflist"
cat >"$folder/etc/containerd.toml" <<TOML
version = 2
root = "$folder/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$folder/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$pause"
  disable_apparmor = true
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "$folder/etc/cni"
    bin_dir = "/usr/lib/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "$folder/etc/certs.d"
TOML
# What is asked of Docker Hub, such as BuildKit by default, is in the registry of the lab.
mkdir -p "$folder/etc/certs.d/docker.io"
printf 'server = "https://registry-1.docker.io"\n[host."http://%s"]\n  capabilities = ["pull", "resolve"]\n' "${pause%%/*}" \
  >"$folder/etc/certs.d/docker.io/hosts.toml"
cat >"$folder/etc/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $address
port: $port
readOnlyPort: 0
healthzPort: 0
authentication: { anonymous: { enabled: true }, webhook: { enabled: false } }
authorization: { mode: AlwaysAllow }
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
containerRuntimeEndpoint: unix:///run/containerd.sock
volumePluginDir: $folder/plugins
localStorageCapacityIsolation: false
evictionHard: { memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%" }
imageGCHighThresholdPercent: 100
serializeImagePulls: false
registryPullQPS: 0
resolvConf: ""
clusterDNS: []
YAML

containerd -c "$folder/etc/containerd.toml" >"$folder/containerd.log" 2>&1 &
for _ in $(seq 200); do
  [ -S /run/containerd.sock ] && break
  sleep 0.1
done
kubelet --config="$folder/etc/kubelet.yaml" --kubeconfig="$folder/../nodes.kubeconfig" --cert-dir="$folder/certs" \
  --hostname-override="$name" --node-labels="$labels" >"$folder/kubelet.log" 2>&1 &
# Whichever of them ends first ends the node, and all that runs on it.
wait -n
