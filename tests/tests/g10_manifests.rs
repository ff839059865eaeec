//! Every overlay and every generated component of `manifests/` is what a real apiserver accepts, as one `kubectl apply -k`.

mod gate;

use std::fs;

use anyhow::{Result, ensure};
use gate::Gate;

#[tokio::test(flavor = "multi_thread")]
async fn every_overlay_and_component_is_accepted() -> Result<()> {
    let gate = Gate::shared().await?;
    let apply = "apply --server-side --force-conflicts --dry-run=server";
    let manifests = tests::workspace::root().join("manifests");
    let mut accepted = 0;
    for overlay in fs::read_dir(manifests.join("overlays"))? {
        let printed = gate.admin.may(&format!("{apply} -k {}", overlay?.path().display()), "").await?;
        ensure!(printed.contains("deployment.apps/webhook"), "no gate in it: {printed}");
        accepted += 1;
    }
    for policies in ["second-lock", "injection-policy"] {
        let file = manifests.join("components").join(policies).join("policies.yaml");
        gate.admin.may(&format!("{apply} -f {}", file.display()), "").await?;
        accepted += 1;
    }
    ensure!(accepted >= 6, "{accepted} found");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_alone_has_nothing_of_the_provisioner_and_refuses_nothing_at_first() -> Result<()> {
    let gate = Gate::shared().await?;
    let folder = tests::workspace::root().join("manifests/overlays/gate");
    let rendered = gate.admin.may(&format!("kustomize {}", folder.display()), "").await?;
    ensure!(!rendered.contains("provisioner"), "{rendered}");
    ensure!(rendered.contains("name: DEFAULT_MODE\n          value: audit"), "{rendered}");
    Ok(())
}
