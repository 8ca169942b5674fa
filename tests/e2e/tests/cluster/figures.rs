//! Figures, printed for people; the bounds that do not depend on how busy the machine is are asserted.

use e2e::{NAMESPACE, OPERATOR_NAMESPACE};

use crate::world::world;

#[test]
fn the_programs_are_small() {
    let world = world();
    world.both_ready().unwrap();
    println!(
        "kubectl apply of two RadiusProxy resources to both Ready: {:.1} s",
        world.apply_to_ready.as_secs_f64()
    );
    let operator = world.kubectl.get(&["-n", OPERATOR_NAMESPACE, "pods"]).unwrap();
    let mut pods: Vec<(&str, String, f64)> = operator["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| {
            (
                OPERATOR_NAMESPACE,
                p["metadata"]["name"].as_str().unwrap().to_owned(),
                30.0,
            )
        })
        .collect();
    pods.extend(["workspaces-0", "vpn-0"].map(|p| (NAMESPACE, p.to_owned(), 12.0)));
    for (namespace, pod, bound) in pods {
        let bytes = world.metric(namespace, &pod, "process_resident_memory_bytes", &[]);
        let mib = bytes / 1024.0 / 1024.0;
        println!("{pod}: {mib:.1} MiB resident");
        assert!(bytes > 0.0, "{pod} does not say how much memory it has");
        assert!(
            mib <= bound * 2.0,
            "{pod} has {mib:.1} MiB, far above its aim of {bound} MiB"
        );
    }
}
