//! What a test makes for itself alone: a simulated directory, and what belongs to it in the cluster. All of it goes with the
//! test, also when that fails, so that the next test and the next run find nothing of it.

use std::cell::RefCell;

use anyhow::Result;
use e2e::SIMULATED;
use serde_json::{Value, json};

use crate::world::{BOB, World, world};

/// A grant for a directory.
pub fn grant(name: &str, namespaces: &str, directory: &str) -> String {
    format!(
        "apiVersion: radius-mfa.dev/v1alpha1\nkind: DirectoryGrant\nmetadata: {{name: {name}}}\nspec:\n  \
         namespaces: [{namespaces}]\n  directories: [{{region: eu-central-1, directoryIds: [{directory}]}}]\n"
    )
}

/// A RadiusProxy with two replicas for a directory, with a provider.
pub fn radius_proxy(name: &str, namespace: &str, directory: &str, provider: &Value) -> String {
    json!({
        "apiVersion": "radius-mfa.dev/v1alpha1",
        "kind": "RadiusProxy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 2,
            "directory": {"id": directory, "region": "eu-central-1", "timeoutSeconds": 5, "retries": 4},
            "provider": provider,
        },
    })
    .to_string()
}

/// A RadiusProxy with one replica that no directory uses, only a client of its own, with its Secrets.
pub fn proxy_without_directory(name: &str, namespace: &str) -> String {
    let seeds = secret(name, namespace, &json!({ "bob": BOB }));
    let client = format!("{name}-client");
    let shared = secret(
        &client,
        namespace,
        &json!({"secret": "shared-with-a-client-of-the-tests"}),
    );
    let proxy = json!({
        "apiVersion": "radius-mfa.dev/v1alpha1",
        "kind": "RadiusProxy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 1,
            "clients": [{"name": "gateway", "networks": ["10.9.9.0/24"], "secretRef": {"name": client, "key": "secret"}}],
            "provider": {"totp": {"seedsSecretRef": {"name": name}}},
        },
    });
    format!("{seeds}\n---\n{shared}\n---\n{proxy}\n")
}

/// A Secret.
pub fn secret(name: &str, namespace: &str, data: &Value) -> String {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": data})
        .to_string()
}

/// A directory's id, and what was made for it.
pub struct Site {
    pub world: &'static World,
    pub directory: &'static str,
    /// Namespace and kind/name, in the order of their making.
    made: RefCell<Vec<(String, String)>>,
}

impl Site {
    /// Nothing is made yet.
    pub fn new(directory: &'static str) -> Self {
        Self {
            world: world(),
            directory,
            made: RefCell::default(),
        }
    }

    /// A directory that a namespace of the test's own may use; the grant is named like the namespace.
    pub fn in_namespace(directory: &'static str, namespace: &str) -> Self {
        let site = Self::new(directory);
        site.directory_of_type("MicrosoftAD");
        site.namespace(namespace);
        site.grant(namespace, namespace);
        site
    }

    /// Makes the directory, or changes it.
    pub fn directory(&self, spec: &Value) {
        let simulator = self.world.simulators.directory();
        simulator.put_directory(self.directory, spec).unwrap();
    }

    /// Makes the directory, of that type, with a controller that nobody logs in at.
    pub fn directory_of_type(&self, kind: &str) {
        self.directory(
            &json!({"type": kind, "name": "own.example.com", "static_controllers": [{"address": "10.9.9.9"}]}),
        );
    }

    /// The RADIUS settings that AWS holds for the directory in a region.
    pub fn settings(&self, region: &str) -> Value {
        let simulator = self.world.simulators.directory();
        simulator.state(self.directory).unwrap()["radius"][region]["settings"].clone()
    }

    /// Two domain controllers of the directory, `<name>-0` and `<name>-1`.
    pub fn domain_controllers(&self, name: &str) {
        self.made(SIMULATED, format!("statefulset/{name}"));
        let simulators = &self.world.simulators;
        simulators.add_domain_controllers(name, self.directory).unwrap();
    }

    /// A namespace of the test's own.
    pub fn namespace(&self, name: &str) {
        self.made(name, format!("namespace/{name}"));
        self.world.kubectl.ensure_namespace(name).unwrap();
    }

    /// Grants the directory to namespaces.
    pub fn grant(&self, name: &str, namespaces: &str) {
        self.apply("default", &grant(name, namespaces, self.directory));
    }

    /// Applies manifests of objects in a namespace.
    pub fn apply(&self, namespace: &str, manifests: &str) {
        let args = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        let output = self.world.kubectl.try_run(&args, Some(manifests)).unwrap();
        // Of several some may be there when another was refused.
        for object in output.stdout.lines().filter_map(|line| line.split(' ').next()) {
            self.made(namespace, object.to_owned());
        }
        assert_eq!(output.code, 0, "{}", output.stderr);
    }

    /// Deletes a RadiusProxy before the test is over, and waits until it is gone.
    pub fn delete(&self, namespace: &str, name: &str) {
        self.delete_object(namespace, &format!("rp/{name}")).unwrap();
    }

    fn made(&self, namespace: &str, object: String) {
        let entry = (namespace.to_owned(), object);
        let mut made = self.made.borrow_mut();
        if !made.contains(&entry) {
            made.push(entry);
        }
    }

    fn delete_object(&self, namespace: &str, object: &str) -> Result<()> {
        let delete = [
            "-n",
            namespace,
            "delete",
            object,
            "--ignore-not-found",
            "--timeout=120s",
        ];
        self.world.kubectl.run(&delete).map(drop)
    }

    fn delete_directory(&self) -> Result<()> {
        let simulator = self.world.simulators.directory();
        if simulator.has_directory(self.directory)? {
            simulator.delete_directory(self.directory)?;
        }
        Ok(())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let objects = self.made.take();
        // The last first: a RadiusProxy goes before its Secrets, its grant and its namespace.
        let deleted = objects
            .iter()
            .rev()
            .map(|(namespace, object)| self.delete_object(namespace, object));
        let mut left: Vec<String> = deleted
            .filter_map(|deleted| deleted.err().map(|error| format!("{error:#}")))
            .collect();
        if let Err(error) = self.delete_directory() {
            left.push(format!("{error:#}"));
        }
        let left = left.join("\n");
        // A second panic would end all the tests.
        if std::thread::panicking() {
            eprintln!("{left}");
        } else {
            assert!(left.is_empty(), "{left}");
        }
    }
}
