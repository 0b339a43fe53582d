use std::process::ExitCode;

use skeleton::config::Config;
use skeleton::platform;
use skeleton::routes::Service;
use skeleton::server::{Patience, Server};

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
    let listen = |port, name| platform::listen(port).map_err(|e| format!("can't listen on port {port} ({name}): {e}"));
    let mut server = Server::new(listen(config.port, "PORT")?, Service::new(&config), Patience::default());
    if let Some(port) = config.metrics_port {
        server = server.with_metrics(listen(port, "METRICS_PORT")?);
    }
    eprintln!(
        "skeleton {} ({}) for {} listens on port {}",
        env!("CARGO_PKG_VERSION"),
        platform::NAME,
        config.system,
        config.port
    );
    server.run().map_err(|error| format!("waiting for connections failed: {error}"))
}
