#!/usr/bin/env bash
# Releases to a cluster: migrations first, then the rollout, and back when it does not come up.
# Usage: deploy/kubernetes/release.sh staging|production
set -euo pipefail
cd "$(dirname "$0")"

overlay=${1:-}
[ -n "$overlay" ] && [ -f "$overlay/kustomization.yaml" ] || {
    echo "Say where to: $0 staging or $0 production." >&2
    exit 2
}
namespace=$(sed -n 's/^namespace: "\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' "$overlay/kustomization.yaml")
# Rendered, so that an overlay may have replaced the file.
if kubectl kustomize "$overlay" | grep -q 192.0.2.0/24; then
    echo "Name the network of your ingress controller in base/nginx-site/balancer.conf first." >&2
    exit 2
fi
component=app.kubernetes.io/component

# A finished Job cannot be changed, only replaced.
kubectl delete job migrate --namespace "$namespace" --ignore-not-found
kubectl apply --kustomize "$overlay" --selector "$component notin (web, jobs)"
is() { kubectl wait job/migrate --namespace "$namespace" --for "condition=$1" --timeout "$2" 2>/dev/null; }
until is complete 10s; do
    if is failed 1s; then
        kubectl logs job/migrate --namespace "$namespace" --tail 50 >&2
        echo "The migration failed; nothing was rolled out." >&2
        exit 1
    fi
done

kubectl apply --kustomize "$overlay" --selector "$component in (web, jobs)"
if ! kubectl rollout status deployment/service --namespace "$namespace" --timeout 300s; then
    kubectl rollout undo deployment/service deployment/jobs --namespace "$namespace"
    echo "The new version did not come up; the one before serves again." >&2
    exit 1
fi
