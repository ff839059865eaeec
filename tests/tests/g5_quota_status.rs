//! G5: a quota that is not enforced yet proves nothing. Stops the controller manager, so it is alone in its binary.

mod gate;

use anyhow::{Result, ensure};
use gate::{Gate, LABEL_GUARD};

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_counts_when_the_controller_manager_has_filled_its_status() -> Result<()> {
    let gate = Gate::shared().await?;
    let controllers = gate.platform.component("kube-controller-manager");
    let (name, (namespace, children)) = Gate::tenant()?;
    let label = format!("label namespace {name} isolation-ready=true");

    controllers.stop().await?;
    let refused = async {
        gate.provisioner.may("create -f -", &namespace).await?;
        gate.provisioner.may("apply --server-side -f -", &children).await?;
        gate.provisioner.may_not(LABEL_GUARD, &label, "").await
    }
    .await;
    controllers.start().await?;

    let message = refused?;
    ensure!(message.contains("(1) ResourceQuota tenant-quota is not enforced yet"), "{message}");
    gate.quota_is_enforced(&name).await?;
    gate.provisioner.may(&label, "").await?;
    gate.delete(&[&name]).await
}
