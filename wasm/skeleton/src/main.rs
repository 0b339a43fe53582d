use std::process::ExitCode;

use skeleton::config::Config;
use skeleton::platform;
use skeleton::routes::Service;
use skeleton::server::Server;

fn main() -> ExitCode {
    match serve() {
        Ok(never) => match never {},
        Err(message) => {
            eprintln!("skeleton: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Returns only when the service can't start or can't go on.
fn serve() -> Result<std::convert::Infallible, String> {
    let config = Config::from_env(|name| std::env::var(name).ok())?;
    let service = Service::new(&config.system);
    let mut server = Server::bind(config.port, service)
        .map_err(|error| format!("can't listen on port {} (PORT): {error}", config.port))?;
    eprintln!(
        "skeleton {} ({}) for {} listens on port {}",
        env!("CARGO_PKG_VERSION"),
        platform::NAME,
        config.system,
        config.port
    );
    server.run().map_err(|error| format!("waiting for connections failed: {error}"))
}
