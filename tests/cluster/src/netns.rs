//! The cluster's network namespace and the one link that joins it to the machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::command::{run, run_command};
use crate::error::Error;
use crate::layout::Layout;
use crate::network::{Network, node_name};
use crate::sys;

/// The cluster's end of the link.
const UPLINK: &str = "uplink";
/// A link without a port: what is sent to a Service that does not exist ends here and never leaves.
const NOWHERE: &str = "services";

/// Makes what is missing of namespace, link, addresses and routes.
pub(crate) fn ensure(layout: &Layout, network: Network, nodes: u8) -> Result<(), Error> {
    let netns = layout.netns();
    if !is_mounted(&netns) {
        fs::write(&netns, "").map_err(Error::file("create", &netns))?;
        run(
            "unshare",
            &[format!("--net={}", netns.display()).as_str(), "true"],
        )?;
    }
    let machine_link = network.machine_link();
    if !Path::new("/sys/class/net").join(&machine_link).exists() {
        let netns = netns.display();
        let script = format!(
            "link add {machine_link} type veth peer name {UPLINK}\nlink set {UPLINK} netns {netns}\n"
        );
        ip_batch(&script)?;
    }
    ip_batch(&machine_script(network))?;
    inside(&netns, &["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
    let links = inside(&netns, &["ip", "-o", "link", "show"])?;
    if !links.contains(&format!(" {NOWHERE}:")) {
        inside(&netns, &["ip", "link", "add", NOWHERE, "type", "bridge"])?;
    }
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", netns.display()))
        .args(["--", "ip", "-batch", "-"]);
    run_command(&mut command, Some(&cluster_script(network, nodes)))?;
    Ok(())
}

/// Removes link and namespace.
pub(crate) fn remove(layout: &Layout, network: Network) -> Result<(), Error> {
    let link = network.machine_link();
    if Path::new("/sys/class/net").join(&link).exists() {
        run("ip", &["link", "delete", &link])?;
    }
    let netns = layout.netns();
    if is_mounted(&netns) {
        sys::unmount(&netns).map_err(Error::file("unmount", &netns))?;
    }
    Ok(())
}

/// Runs a program in the namespace.
fn inside(netns: &Path, words: &[&str]) -> Result<String, Error> {
    let enter = format!("--net={}", netns.display());
    let args: Vec<&str> = [enter.as_str(), "--"]
        .into_iter()
        .chain(words.iter().copied())
        .collect();
    run("nsenter", &args)
}

fn ip_batch(script: &str) -> Result<(), Error> {
    run_command(Command::new("ip").args(["-batch", "-"]), Some(script)).map(drop)
}

fn machine_script(network: Network) -> String {
    let (link, machine, api) = (network.machine_link(), network.machine(), network.api());
    let (cluster, services) = (network.cluster_cidr(), network.service_cidr());
    format!(
        "address replace {machine}/24 dev {link}\n\
         link set {link} up\n\
         route replace {cluster} via {api} dev {link}\n\
         route replace {services} via {api} dev {link}\n"
    )
}

fn cluster_script(network: Network, nodes: u8) -> String {
    let (api, services) = (network.api(), network.service_cidr());
    let mut script = format!(
        "link set lo up\n\
         link set {UPLINK} up\n\
         link set {NOWHERE} up\n\
         address replace {api}/24 dev {UPLINK}\n"
    );
    for n in 1..=nodes {
        script += &format!("address replace {}/24 dev {UPLINK}\n", network.node(n));
    }
    script + &format!("route replace {services} dev {NOWHERE} src {api}\n")
}

/// Whether a file is a mount point, by this process's view of the mounts.
pub(crate) fn is_mounted(path: &Path) -> bool {
    mounts_below(path).iter().any(|mount| mount == path)
}

/// The mount points at and below a path, deepest last mounted first: the order to unmount in.
pub(crate) fn mounts_below(path: &Path) -> Vec<std::path::PathBuf> {
    let listing = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<_> = listing
        .lines()
        .filter_map(|line| line.split(' ').nth(4).map(unescape))
        .filter(|mount| mount.starts_with(path))
        .collect();
    found.reverse();
    found
}

/// proc(5): space, tab, newline and backslash are written as three octal digits.
fn unescape(field: &str) -> std::path::PathBuf {
    let plain = field
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n");
    plain.replace("\\134", "\\").into()
}

/// The names of all nodes.
pub(crate) fn node_names(nodes: u8) -> Vec<String> {
    (1..=nodes).map(node_name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_sends_pods_and_services_through_the_link() {
        let network = Network::choose(&[], &[]).unwrap();
        assert_eq!(
            machine_script(network),
            "address replace 10.88.0.254/24 dev radius-mfa-0\nlink set radius-mfa-0 up\n\
             route replace 10.88.0.0/16 via 10.88.0.1 dev radius-mfa-0\n\
             route replace 10.96.0.0/16 via 10.88.0.1 dev radius-mfa-0\n"
        );
    }

    #[test]
    fn every_node_has_an_address_on_the_uplink() {
        let network = Network::choose(&[], &[]).unwrap();
        let script = cluster_script(network, 2);
        assert!(script.contains("address replace 10.88.0.12/24 dev uplink\n"));
        assert!(!script.contains("10.88.0.13"));
    }

    #[test]
    fn mount_points_are_read_as_they_are_written() {
        assert_eq!(unescape("/a\\040b"), Path::new("/a b"));
        assert!(is_mounted(Path::new("/proc")));
    }
}
