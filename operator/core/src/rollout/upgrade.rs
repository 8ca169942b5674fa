//! How running pods come to a new template without a login lost.
//!
//! What a kubelet can change in a running pod (the image) is changed in place, one pod at a time: the address stays, AWS
//! hears nothing. One extra pod that isn't registered has to be ready on the new image first. What needs new pods is done by
//! surge: pods N to 2N-1 start on the new template and are registered in place of pods 0 to N-1 (one write), which are then
//! replaced and registered again (the other write). Pods that AWS doesn't list are replaced one by one. No registered server
//! is taken down for a surge or a scale-down, and a template that doesn't start stops all of this.

mod context;
mod in_place;
mod layout;
mod message;
mod replace;
mod surge;

use std::ops::Range;

use jiff::Timestamp;

use super::ObjectRef;
use super::acceptance::Acceptance;
use super::context::RolloutContext;
use super::proxy_pods::ProxyPod;
use crate::objects::{Layout, Template};
use crate::observed::Surge;
use context::UpgradeContext;

/// What is done about the template in this rollout.
#[derive(Debug, Clone)]
pub(super) struct Upgrade {
    /// The state of the surge, if there is one.
    pub(super) surge: Option<Surge>,
    pub(super) layout: Layout,
    /// Ordinals of the pods that are registered once they serve.
    pub(super) eligible: Range<u32>,
    /// Ordinals of the pods that stay registered.
    pub(super) retained: Range<u32>,
    /// Number of pods that should log people in.
    pub(super) replicas: u32,
    /// Number of unready pods to exclude from the disruption budget.
    pub(super) surplus: u32,
    /// Uids of the pods whose image is changed, with the new value of the annotation that records it.
    pub(super) images: Vec<(String, String)>,
    /// Uids of the pods that get the revision as their label.
    pub(super) labels: Vec<String>,
    /// The revision of the template.
    pub(super) revision: Option<String>,
    /// Pods that are replaced.
    pub(super) delete: Vec<ObjectRef>,
    /// What is under way, for people.
    pub(super) message: Option<String>,
    /// When to plan again.
    pub(super) again: Option<Timestamp>,
}

/// Decides how the pods come to the template.
pub(super) fn upgrade(
    rollout: &RolloutContext<'_>,
    template: &Template,
    proxies: &[ProxyPod<'_>],
    acceptance: &Acceptance,
) -> Upgrade {
    let before = rollout
        .input
        .stateful_set
        .as_ref()
        .and_then(|set| set.surge.clone());
    let context = UpgradeContext::new(rollout, template, proxies, acceptance, before.as_ref());
    let surge = if context.revision.is_some() {
        surge::advance(&context, before)
    } else {
        before
    };
    outcome(&context, surge)
}

fn outcome(context: &UpgradeContext<'_>, surge: Option<Surge>) -> Upgrade {
    let (eligible, retained) = context.registered(surge.as_ref());
    let layout = layout::layout(context, surge.as_ref());
    let acts = context.revision.is_some();
    let message = message::message(context, surge.as_ref());
    Upgrade {
        layout: Layout {
            upgrading: context.is_under_way(surge.as_ref()),
            ..layout
        },
        eligible,
        retained,
        replicas: surge.as_ref().map_or(context.n, |surge| surge.replicas),
        surplus: layout::surplus(context, surge.as_ref(), layout.replicas),
        images: in_place::images(context, surge.as_ref()),
        labels: if acts {
            in_place::labels(context)
        } else {
            Vec::new()
        },
        revision: context.revision.map(str::to_owned),
        delete: replace::deletions(context, surge.as_ref()),
        message,
        again: layout::again(context, surge.as_ref()).filter(|at| context.rollout.now < *at),
        surge,
    }
}
