//! Two releases of the chart in one cluster.

use std::time::Duration;

use e2e::{Deadline, OPERATOR_NAMESPACE, until};
use serde_json::Value;

use crate::bad_input::totp_proxy;
use crate::site::Site;
use crate::told::told;
use crate::world::World;

/// A release beside that of the tests, in a namespace of the same name, until this is dropped.
pub struct SecondRelease<'a> {
    world: &'a World,
    pub name: &'static str,
}

impl<'a> SecondRelease<'a> {
    /// Installs it for these namespaces, with further values.
    pub fn install(world: &'a World, name: &'static str, namespaces: &[&str], more: &[&str]) -> Self {
        let watched = format!("watchNamespaces={{{}}}", namespaces.join(","));
        let values = [&[watched.as_str()], more].concat();
        let release = Self { world, name };
        world
            .install()
            .run_second(name, &world.simulators, &values)
            .unwrap();
        release
    }
}

impl Drop for SecondRelease<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.world.install().remove_second(self.name) {
            eprintln!("the release {} is still there: {error:#}", self.name);
        }
    }
}

/// Name and uid of each pod, and its container's image and number of restarts.
fn containers(world: &World, namespace: &str) -> anyhow::Result<Vec<[Value; 4]>> {
    let pods = world.kubectl.get(&["-n", namespace, "pods"])?;
    let of_pod = |pod: &Value| {
        let container = &pod["status"]["containerStatuses"][0];
        let image = &pod["spec"]["containers"][0]["image"];
        [
            &pod["metadata"]["name"],
            &pod["metadata"]["uid"],
            image,
            &container["restartCount"],
        ]
        .map(Value::clone)
    };
    Ok(pods["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(of_pod)
        .collect())
}

#[test]
#[ignore = "takes two minutes: `make test-long` runs it"]
fn of_two_releases_for_one_namespace_one_holds_and_no_container_is_restarted() {
    let (namespace, name) = ("contested", "contested");
    let site = Site::in_namespace("d-9067000131", namespace);
    let world = site.world;
    site.apply(namespace, &totp_proxy(name, namespace, site.directory));
    world.ready(namespace, name).unwrap();
    let before = containers(world, namespace).unwrap();
    let since = world.simulators.directory().last_write().unwrap();

    let (_, tag) = world.images.proxy.rsplit_once(':').unwrap();
    let other_image = format!("proxy.image.tag={tag}2");
    let second = SecondRelease::install(world, "second-release", &[namespace], &[&other_image]);
    let message = told(world, namespace, name, "OtherOperator");
    assert!(
        message.contains(OPERATOR_NAMESPACE) || message.contains(second.name),
        "{message}"
    );
    let deadline = Deadline::within(Duration::from_secs(30));
    until("half a minute without a restart", Duration::from_secs(60), || {
        assert_eq!(containers(world, namespace)?, before);
        Ok(if deadline.passed() {
            Ok(())
        } else {
            Err("none so far".to_owned())
        })
    })
    .unwrap();
    let simulator = world.simulators.directory();
    let writes = simulator.settings_writes(since, site.directory).unwrap();
    assert!(writes.is_empty(), "{writes:?}");

    drop(second);
    world.ready(namespace, name).unwrap();
    assert_eq!(containers(world, namespace).unwrap(), before);
}
