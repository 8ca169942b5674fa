use ipnet::IpNet;

use super::clients::parse_network;
use super::peers::MAX_PEERS_IN_FILE;
use super::*;

const DUO: &str = r#"
    [server]
    listen = ["127.0.0.1:1812"]
    [provider.duo]
    api_host = "api-1234abcd.duosecurity.com"
    integration_key_file = "ikey"
    secret_key_file = "skey"
    [[clients]]
    name = "vpn"
    networks = ["10.0.0.0/24", "::ffff:10.1.0.1"]
    secret_files = ["secret"]
    timeout_seconds = 30
    retries = 4
"#;

fn contents() -> Contents {
    [
        ("ikey", "DIXXXXXXXXXXXXXXXXXX\n"),
        ("skey", "k"),
        ("secret", "a long enough secret\n"),
        ("s/a", "otpauth://"),
    ]
    .map(|(path, text)| (path.to_owned(), Secret::new(text.as_bytes().to_vec())))
    .into()
}

fn problems(text: &str) -> Vec<String> {
    let file = ConfigFile::parse(text).unwrap();
    Config::check(&file, &contents())
        .unwrap_err()
        .0
        .iter()
        .map(Problem::to_string)
        .collect()
}

#[test]
fn a_good_file_becomes_a_configuration() {
    let config = Config::check(&ConfigFile::parse(DUO).unwrap(), &contents()).unwrap();
    let client = config.clients.first().unwrap();
    assert_eq!(client.networks[1], "10.1.0.1/32".parse::<IpNet>().unwrap());
    assert_eq!(client.budget(), Duration::from_secs(150));
    assert_eq!(client.secret.expose(), b"a long enough secret");
    assert_eq!(config.provider.name(), "duo");
}

#[test]
fn what_is_written_back_is_what_was_read() {
    let file = ConfigFile::parse(DUO).unwrap();
    assert_eq!(ConfigFile::parse(&toml::to_string(&file).unwrap()).unwrap(), file);
}

#[test]
fn every_problem_is_told_with_field_value_and_bound() {
    let text = DUO
        .replace("timeout_seconds = 30", "timeout_seconds = 51")
        .replace("retries = 4", "retries = 11\nrequests_per_second = 0")
        .replace("\"10.0.0.0/24\"", "\"10.0.0.0/33\"")
        .replace("127.0.0.1:1812", "localhost");
    assert_eq!(
        problems(&text),
        [
            "clients[0].networks: \"10.0.0.0/33\" is neither an address nor a CIDR",
            "clients[0].requests_per_second: is 0; it must be 1 to 1000000",
            "clients[0].retries: is 11; it must be 0 to 10",
            "clients[0].timeout_seconds: is 51; it must be 1 to 50",
            "server.listen[0]: is \"localhost\"; write an address, not a name, and a port, such as \"[::]:1812\"",
        ]
    );
}

#[test]
fn a_provider_is_only_where_its_vendor_is() {
    for host in [
        "duosecurity.com.evil.example",
        "evilduosecurity.com",
        "169.254.169.254",
        "a@duosecurity.com/x",
    ] {
        let told = problems(&DUO.replace("api-1234abcd.duosecurity.com", host));
        assert!(
            told.iter().all(|p| p.starts_with("provider.duo.api_host: is ")),
            "{told:?}"
        );
    }
}

#[test]
fn a_missing_or_short_secret_is_named_and_not_shown() {
    let told = problems(&DUO.replace("[\"secret\"]", "[\"nowhere\"]"));
    assert_eq!(
        told,
        ["clients[0].secret_files: the file \"nowhere\" is missing or cannot be read"]
    );
    let told = problems(&DUO.replace("[\"secret\"]", "[\"skey\"]"));
    assert_eq!(
        told,
        [
            "clients[0].secret_files: the file \"skey\": the shared secret has 1 characters; it must have 8 to 512"
        ]
    );
}

#[test]
fn why_a_file_cannot_be_read_is_told() {
    let file = ConfigFile::parse(&DUO.replace("[\"secret\"]", "[\"nowhere\"]")).unwrap();
    let absent = Unread::Absent("there is no /etc/nowhere".to_owned());
    let causes = [("nowhere".to_owned(), absent)].into();
    let told = Config::check_read(&file, &contents(), &causes).unwrap_err();
    assert_eq!(
        told.to_string(),
        "clients[0].secret_files: the file \"nowhere\" cannot be read: there is no /etc/nowhere"
    );
}

#[test]
fn a_file_without_clients_and_one_with_a_negative_number_are_refused_in_words_of_the_file() {
    let (without, _) = DUO.split_once("[[clients]]").unwrap();
    assert_eq!(
        problems(without),
        ["clients: is empty; nobody could ask anything. Add a [[clients]] table"]
    );
    let negative = format!("{DUO}\n[policy.limits]\npending = -1\n");
    let told = ConfigFile::parse(&negative).unwrap_err().to_string();
    assert!(told.ends_with("expected a whole number, 0 or more"), "{told}");
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    let error = ConfigFile::parse("[server]\nlisten_on = 1\n")
        .unwrap_err()
        .to_string();
    assert!(error.contains("line 2") && error.contains("listen_on"), "{error}");
}

#[test]
fn two_clients_cannot_own_one_network() {
    let two = format!(
        "{DUO}{}",
        &DUO[DUO.find("[[clients]]").unwrap()..].replace("vpn", "wlan")
    );
    assert!(problems(&two)[0].contains("10.0.0.0/24 is listed in clients[0] too"));
}

#[test]
fn the_files_of_a_seed_folder_are_seeds() {
    let totp = "[provider.totp]\nseed_folders = [\"s\"]\n[[clients]]\nname = \"a\"\nnetworks = [\"::1\"]\nsecret_files = [\"secret\"]";
    let file = ConfigFile::parse(totp).unwrap();
    assert_eq!(
        file.named_files(),
        [
            file::NamedFile::Folder("s".to_owned()),
            file::NamedFile::File("secret".to_owned())
        ]
    );
    let crate::Provider::Totp(totp) = Config::check(&file, &contents()).unwrap().provider else {
        panic!("not totp")
    };
    assert_eq!(totp.seeds.len(), 1);
    assert_eq!(totp.seeds[0].path, "s/a");
}

#[test]
fn a_store_of_used_codes_needs_a_key_and_is_one_of_two() {
    let totp = |server: &str, store: &str| {
        format!(
            "{server}\n[provider.totp]\nseed_folders = [\"s\"]\n{store}\n[[clients]]\nname = \"vpn\"\n\
             networks = [\"10.0.0.1\"]\nsecret_files = [\"secret\"]"
        )
    };
    let key = "[server]\ndigest_key_file = \"skey\"";
    let kubernetes = "[provider.totp.used_codes.kubernetes]\nconfig_maps = [\"a\", \"b\"]";
    let redis = "[provider.totp.used_codes.redis]\naddress = \"[fd00::1]:6379\"\npassword_file = \"ikey\"";
    assert!(problems(&totp("", kubernetes))[0].contains("server.digest_key_file"));
    let both = problems(&totp(key, &format!("{kubernetes}\n{redis}")));
    assert!(both[0].contains("one store must decide"), "{both:?}");
    let checked = |text: &str| {
        let file = ConfigFile::parse(text).unwrap();
        match Config::check(&file, &contents()).unwrap().provider {
            crate::Provider::Totp(totp) => totp.used_codes,
            other => panic!("{}", other.name()),
        }
    };
    let store = checked(&totp(key, redis)).store;
    let crate::CodeStore::Redis(redis) = store else {
        panic!("{store:?}");
    };
    assert_eq!(
        (redis.host.as_str(), redis.port, redis.tls),
        ("fd00::1", 6379, true)
    );
    assert_eq!(redis.password.unwrap().expose(), b"DIXXXXXXXXXXXXXXXXXX");
    assert_eq!(checked(&totp("", "")).store, crate::CodeStore::Memory);
    let deny = "[provider.totp.used_codes]\nwhen_unavailable = \"deny\"";
    assert_eq!(
        checked(&totp("", deny)).when_unavailable,
        crate::StoreOutage::Deny
    );
}

#[test]
fn a_mapped_network_is_the_ipv4_network_that_packets_come_from() {
    for (text, network) in [
        ("::ffff:10.1.0.1", "10.1.0.1/32"),
        ("::ffff:10.1.0.1/112", "10.1.0.0/16"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("2001:db8::7/32", "2001:db8::/32"),
    ] {
        assert_eq!(parse_network(text).unwrap().to_string(), network, "{text}");
    }
}

#[test]
fn no_fuzz_makes_it_panic_and_what_is_taken_keeps_to_its_bounds() {
    let lines: Vec<&str> = DUO.lines().map(str::trim).collect();
    bolero::check!()
        .with_type::<Vec<(u8, u8, String, u32)>>()
        .for_each(|changes| {
            let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            for (at, how, text, number) in changes {
                let at = usize::from(*at) % lines.len();
                let key = lines[at].split(" = ").next().unwrap_or_default().to_owned();
                match how % 5 {
                    0 => lines[at] = format!("{key} = {number}"),
                    1 => lines[at] = format!("{key} = {text:?}"),
                    2 => lines[at] = format!("{key} = [{text:?}]"),
                    3 => lines[at].clone_from(text),
                    _ => lines[at].push_str(text),
                }
            }
            let Ok(file) = ConfigFile::parse(&lines.join("\n")) else {
                return;
            };
            match Config::check(&file, &contents()) {
                Ok(config) => {
                    for client in &config.clients {
                        assert!(!client.networks.is_empty());
                        assert!((1..=550).contains(&client.budget().as_secs()));
                    }
                }
                Err(problems) => assert!(!problems.0.is_empty() && !problems.to_string().is_empty()),
            }
        });
}

/// The problems of the Duo file with something replaced or added.
fn problems_of(text: &str) -> Vec<String> {
    let problems = Config::check(&ConfigFile::parse(text).unwrap(), &contents()).unwrap_err();
    problems.0.iter().map(ToString::to_string).collect()
}

#[test]
fn the_name_that_aws_probes_with_is_never_exempt() {
    for probe_users in ["[\"fakeusername\"]", "[\"other\"]", "[]"] {
        let text =
            format!("{DUO}\n[policy]\nexempt_users = [\"FakeUserName\"]\nprobe_users = {probe_users}\n");
        let problems = problems(&text);
        assert!(problems[0].contains("AWS probes with"), "{problems:?}");
    }
}

#[test]
fn an_exempt_name_that_stands_for_others_is_a_problem_and_one_that_is_none_too() {
    let policy = "[policy]\nexempt_users = [\"CORP\\\\svc\", \"svc@corp.example\", \"Robot\", \" \"]\n";
    let problems = problems_of(&format!("{DUO}\n{policy}"));
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems[0].starts_with("policy.exempt_users[0]") && problems[0].ends_with("write \"svc\""));
    assert!(problems[1].starts_with("policy.exempt_users[1]"));
    assert!(problems[2].starts_with("policy.exempt_users[3]"));
    let whole = format!(
        "{DUO}\n[policy]\nexempt_users = [\"CORP\\\\svc\", \"Robot\"]\n[policy.user_names]\nstrip_domain = false\n"
    );
    let config = Config::check(&ConfigFile::parse(&whole).unwrap(), &contents()).unwrap();
    assert_eq!(
        config
            .policy
            .exempt
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>(),
        ["corp\\svc", "robot"]
    );
}

#[test]
fn what_was_written_into_http_proxy_is_refused_with_credentials_and_never_repeated() {
    for value in [
        "http://me:hunter2@proxy:3128",
        "https://me:hunter2@proxy",
        "hunter2",
    ] {
        let line = format!("[provider.duo]\nhttp_proxy = \"{value}\"");
        let file = ConfigFile::parse(&DUO.replace("[provider.duo]", &line)).unwrap();
        assert!(!format!("{file:?}").contains("hunter2"));
        let problems = problems_of(&DUO.replace("[provider.duo]", &line));
        assert!(problems[0].starts_with("provider.duo.http_proxy"), "{problems:?}");
        assert!(!problems.concat().contains("hunter2"));
    }
    let broken = DUO.replace(
        "[provider.duo]",
        "[provider.duo]\nhttp_proxy = \"http://me:hunter2@proxy",
    );
    let error = ConfigFile::parse(&broken).unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("line 5, column "), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_proxys_user_name_and_password_come_from_files_and_belong_together() {
    let with = |lines: &str| DUO.replace("[provider.duo]", &format!("[provider.duo]\n{lines}"));
    let mut files = contents();
    for (name, text) in [
        ("pu", "radius\n"),
        ("pp", "hunter2: of the proxy\n"),
        ("colon", "a:b"),
    ] {
        files.insert(name.to_owned(), Secret::new(text.as_bytes().to_vec()));
    }
    let check = |lines: &str| {
        let file = ConfigFile::parse(&with(lines)).unwrap();
        Config::check(&file, &files).map_err(|problems| problems.to_string())
    };
    let proxy = "http_proxy = \"http://proxy:3128\"\n";
    let both = "http_proxy_username_file = \"pu\"\nhttp_proxy_password_file = \"pp\"";
    let crate::Provider::Duo(duo) = check(&format!("{proxy}{both}")).unwrap().provider else {
        panic!("another provider");
    };
    let proxy_of_duo = duo.http_proxy.unwrap();
    assert!(!format!("{proxy_of_duo:?}").contains("hunter2"));
    let login = proxy_of_duo.login.unwrap();
    assert_eq!(login.username.expose(), b"radius");
    assert_eq!(login.password.expose(), b"hunter2: of the proxy");
    for (lines, told) in [
        (both.to_owned(), "provider.duo.http_proxy: is missing"),
        (
            format!("{proxy}http_proxy_username_file = \"pu\""),
            "http_proxy_password_file: is missing",
        ),
        (
            format!("{proxy}http_proxy_password_file = \"pp\""),
            "http_proxy_username_file: is missing",
        ),
        (
            format!("{proxy}{}", both.replace("\"pu\"", "\"colon\"")),
            "a colon",
        ),
        (
            format!("{proxy}{}", both.replace("\"pu\"", "\"none\"")),
            "cannot be read",
        ),
    ] {
        let text = check(&lines).unwrap_err();
        assert!(text.contains(told), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn an_upstream_server_at_a_link_local_address_is_a_problem() {
    for address in ["169.254.169.254:1812", "[fe80::1]:1812"] {
        let start = DUO.find("[provider.duo]").unwrap();
        let end = DUO.find("[[clients]]").unwrap();
        let provider = format!(
            "[provider.radius]\n[[provider.radius.servers]]\naddress = \"{address}\"\nsecret_file = \"secret\"\n"
        );
        let problems = problems_of(&[&DUO[..start], &provider, &DUO[end..]].concat());
        assert!(problems[0].contains("link-local"), "{problems:?}");
    }
}

#[test]
fn the_other_proxies_are_in_the_configuration_in_a_file_or_nowhere_yet() {
    let with = |addresses: &str| {
        let peers = format!("[server.peers]\nlisten = \"[::]:1814\"\nkey_file = \"key\"\n{addresses}\n");
        ConfigFile::parse(&DUO.replace("[provider.duo]", &format!("{peers}[provider.duo]"))).unwrap()
    };
    let check = |file: &ConfigFile, others: Option<&[u8]>| {
        let mut contents = contents();
        let key = Secret::new(b"0123456789abcdef0123456789abcdef".to_vec());
        contents.insert("key".to_owned(), key);
        contents.extend(others.map(|text| ("others".to_owned(), Secret::new(text.to_vec()))));
        Config::check(file, &contents).map(|config| config.peers.unwrap().addresses)
    };
    let file = with("addresses_file = \"others\"");
    assert_eq!(check(&file, None), Ok(Vec::new()), "it is alone");
    assert_eq!(check(&file, Some(b"\n")), Ok(Vec::new()));
    let two = [("10.0.0.1".to_owned(), 1814), ("fd00::1".to_owned(), 1815)];
    assert_eq!(
        check(&file, Some(b"10.0.0.1:1814\r\n\n[fd00::1]:1815")),
        Ok(two.to_vec())
    );
    let both = with("addresses = [\"10.0.0.1:1814\"]\naddresses_file = \"others\"");
    assert_eq!(check(&both, Some(b"[fd00::1]:1815")), Ok(two.to_vec()));
    assert!(!file.is_digested("others") && file.is_digested("key"));

    let told = |file: &ConfigFile, others: &[u8]| check(file, Some(others)).unwrap_err().0[0].to_string();
    assert!(told(&with(""), b"").contains("names 0 addresses; it must be 1 to 16"));
    let text = told(&file, b"10.0.0.1:1814\n10.0.0.2");
    assert!(
        text.contains("line 2 of \"others\"") && text.contains("\"10.0.0.2\""),
        "{text}"
    );
    assert!(told(&file, b"\xff").contains("is not UTF-8"));
    let unread = |cause: fn(String) -> Unread| {
        let mut contents = contents();
        let key = Secret::new(b"0123456789abcdef0123456789abcdef".to_vec());
        contents.insert("key".to_owned(), key);
        let unreadable = Unreadable::from([("others".to_owned(), cause("why".to_owned()))]);
        Config::check_read(&file, &contents, &unreadable).map(|config| config.peers.unwrap().addresses)
    };
    assert_eq!(unread(Unread::Absent), Ok(Vec::new()));
    let text = unread(Unread::Failed).unwrap_err().to_string();
    assert!(
        text.contains("server.peers.addresses_file: the file \"others\" cannot be read: why"),
        "{text}"
    );
    let many = "10.0.0.1:1814\n".repeat(MAX_PEERS_IN_FILE + 1);
    assert!(told(&file, many.as_bytes()).contains("has 65 addresses; it may have 64"));
}

#[test]
fn a_proxy_without_a_password_is_shown() {
    let line = "[provider.duo]\nhttp_proxy = \"http://proxy.example:3128\"";
    let file = ConfigFile::parse(&DUO.replace("[provider.duo]", line)).unwrap();
    assert!(format!("{file:?}").contains("http://proxy.example:3128"));
}

#[test]
fn no_provider_and_two_of_them_are_told_in_words_that_say_what_to_do() {
    let start = DUO.find("[provider.duo]").unwrap();
    let end = DUO.find("[[clients]]").unwrap();
    let none = [&DUO[..start], &DUO[end..]].concat();
    let two = [
        &DUO[..end],
        "[provider.totp]\nseed_folders = [\"s\"]\n",
        &DUO[end..],
    ]
    .concat();
    let told = |text: &str| ConfigFile::parse(text).unwrap_err().to_string();
    assert!(
        told(&none).contains("no provider is named")
            && told(&none).contains("[provider.duo], [provider.okta]")
    );
    assert!(
        told(&two).contains("2 providers are named (duo, totp)"),
        "{}",
        told(&two)
    );
    let empty = none.replace("[[clients]]", "[provider]\n[[clients]]");
    assert!(told(&empty).contains("no provider is named"), "{}", told(&empty));
    let misspelt = DUO.replace("[provider.duo]", "[provider.dou]");
    assert!(
        told(&misspelt).contains("dou") && told(&misspelt).contains("duo"),
        "{}",
        told(&misspelt)
    );
    let other = DUO.replace("retries = 4", "retries = \"4\"");
    assert!(told(&other).contains("line "), "{}", told(&other));
}
