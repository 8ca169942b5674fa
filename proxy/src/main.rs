//! `radius-proxy`

fn main() -> std::process::ExitCode {
    radius_proxy::main()
}
