#!/usr/bin/env bash
# A real Kubernetes control plane on 127.0.0.1, without containers: etcd, kube-apiserver, kube-controller-manager,
# kube-scheduler and KEDA (operator and metrics adapter, without the scalers that need other services).
#
#   cluster.sh build           compiles it from Go modules into CLUSTER_BIN (10 to 15 minutes on 2 cores, once; 600 MB)
#   cluster.sh up FOLDER       starts it; prints the KUBECONFIG to use (some seconds, 1.1 GiB)
#   cluster.sh down FOLDER     stops what `up FOLDER` started
#
# Nodes and pods are kept by deploy/test/fleet, which runs each pod as a process. Needs go, openssl and kubectl.
set -euo pipefail
here=$(cd "$(dirname "$0")/cluster" && pwd)
bin=${CLUSTER_BIN:-${XDG_CACHE_HOME:-$HOME/.cache}/bloctrain/deploy/bin}
kubernetes=1.36.3 keda=2.21.0 helm=3.22.0
api=${API_PORT:-26443} etcd=${ETCD_PORT:-23790}
modules=$(go env GOMODCACHE)

build() {
  mkdir -p "$bin"
  export GOBIN=$bin GOFLAGS=-buildvcs=false CGO_ENABLED=0
  local v=k8s.io/component-base/version
  (cd "$here/control-plane" && go build -mod=mod -trimpath -o "$bin/control-plane" \
    -ldflags "-s -w -X $v.gitVersion=v$kubernetes -X $v.gitMajor=1 -X $v.gitMinor=36" .)
  local sources=$bin/../keda
  local original
  original=$(cd "$here/keda" && go mod download -json "github.com/kedacore/keda/v2@v$keda" |
    sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  "$here/trim" "$original" "$sources/keda"
  cp "$here"/keda/{go.mod,go.sum} "$sources/"
  (cd "$sources" && go mod edit -replace "github.com/kedacore/keda/v2=./keda" &&
    go build -mod=mod -trimpath -ldflags "-s -w" \
    -o "$bin/" github.com/kedacore/keda/v2/cmd/operator github.com/kedacore/keda/v2/cmd/adapter)
  go install "helm.sh/helm/v3/cmd/helm@v$helm"
}

# One authority; a client for aggregated APIs; a server for KEDA.
certificates() {
  cd "$1/pki"
  [ ! -f ca.crt ] || return 0
  openssl genrsa -out sa.key 2048 2> /dev/null
  openssl rsa -in sa.key -pubout -out sa.pub 2> /dev/null
  openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=cluster-test -days 3650 2> /dev/null
  printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' > ext
  local pair file
  for pair in front-proxy:front-proxy-client keda/tls:localhost; do
    file=${pair%%:*}
    openssl req -newkey rsa:2048 -nodes -keyout "$file.key" -out "$file.csr" -subj "/CN=${pair##*:}" 2> /dev/null
    openssl x509 -req -in "$file.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -out "$file.crt" \
      -extfile ext 2> /dev/null
  done
  cp ca.crt ca.key keda/
  head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' > token
  echo "$(cat token),admin,admin,system:masters" > tokens.csv
}

start() {
  local name=$1
  shift
  nohup "$@" > "log/$name.log" 2>&1 &
  echo $! > "pid/$name"
}

wait_for() {
  for _ in $(seq 1200); do
    "$@" > /dev/null 2>&1 && return
    sleep 0.5
  done
  echo "not ready: $*; see $PWD/log" >&2
  exit 1
}

kubeconfig() {
  cat << K
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "$1", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: "$(cat pki/token)"}}]
contexts: [{name: test, context: {cluster: test, user: admin}}]
current-context: test
K
}

control_plane() {
  local url=$1 peer=http://127.0.0.1:$((etcd + 1)) store=http://127.0.0.1:$etcd
  start etcd "$bin/control-plane" etcd --data-dir etcd --unsafe-no-fsync --listen-client-urls "$store" \
    --advertise-client-urls "$store" --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
    --initial-cluster "default=$peer"
  start apiserver "$bin/control-plane" apiserver --etcd-servers "$store" --bind-address 127.0.0.1 \
    --advertise-address 127.0.0.1 --endpoint-reconciler-type none --secure-port "$api" --cert-dir pki \
    --token-auth-file pki/tokens.csv --authorization-mode Node,RBAC --allow-privileged \
    --service-cluster-ip-range 10.0.0.0/24 --service-account-key-file pki/sa.pub \
    --service-account-signing-key-file pki/sa.key --service-account-issuer "$url" --client-ca-file pki/ca.crt \
    --requestheader-client-ca-file pki/ca.crt --requestheader-allowed-names front-proxy-client \
    --requestheader-extra-headers-prefix X-Remote-Extra- --requestheader-group-headers X-Remote-Group \
    --requestheader-username-headers X-Remote-User --proxy-client-cert-file pki/front-proxy.crt \
    --proxy-client-key-file pki/front-proxy.key
  wait_for kubectl get --raw /readyz
  start controller-manager "$bin/control-plane" controller-manager --kubeconfig kubeconfig --leader-elect=false \
    --use-service-account-credentials --service-account-private-key-file pki/sa.key --bind-address 127.0.0.1 \
    --secure-port $((api + 1)) --cert-dir pki
  start scheduler "$bin/control-plane" scheduler --kubeconfig kubeconfig --leader-elect=false \
    --bind-address 127.0.0.1 --secure-port $((api + 2)) --cert-dir pki
}

autoscaler() {
  kubectl apply --server-side -f "$modules/github.com/kedacore/keda/v2@v$keda/config/crd/bases" > /dev/null
  kubectl apply -f "$here/keda.yaml" > /dev/null
  export POD_NAMESPACE=keda WATCH_NAMESPACE='' KEDA_CLUSTER_OBJECT_NAMESPACE=keda
  start keda-operator "$bin/operator" --kubeconfig kubeconfig --cert-dir pki/keda --leader-elect=false \
    --metrics-bind-address 127.0.0.1:$((api + 4)) --health-probe-bind-address 127.0.0.1:$((api + 5)) \
    --metrics-service-bind-address 127.0.0.1:$((api + 6))
  start keda-adapter "$bin/adapter" --kubeconfig kubeconfig --lister-kubeconfig kubeconfig \
    --authentication-kubeconfig kubeconfig --authorization-kubeconfig kubeconfig --bind-address 127.0.0.1 \
    --secure-port 26450 --cert-dir pki/keda --tls-cert-file pki/keda/tls.crt \
    --tls-private-key-file pki/keda/tls.key --metrics-service-address "localhost:$((api + 6))"
  wait_for kubectl get --raw /apis/external.metrics.k8s.io/v1beta1
}

up() {
  mkdir -p "$1"/{pki/keda,etcd,log,pid}
  local folder
  folder=$(cd "$1" && pwd)
  (certificates "$folder")
  cd "$folder"
  kubeconfig "https://127.0.0.1:$api" > kubeconfig
  export KUBECONFIG=$folder/kubeconfig
  control_plane "https://127.0.0.1:$api"
  autoscaler
  echo "export KUBECONFIG=$folder/kubeconfig"
}

down() {
  local file
  for file in "$1"/pid/*; do
    kill "$(cat "$file")" 2> /dev/null || true
    rm -f "$file"
  done
}

case ${1:-} in
  build) build ;;
  up) up "${2:?FOLDER}" ;;
  down) down "${2:?FOLDER}" ;;
  *)
    sed -n '2,9p' "$0"
    exit 2
    ;;
esac
