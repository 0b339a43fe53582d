//! oha's command line, from its library.

use clap::Parser;

fn main() -> std::process::ExitCode {
    let options = oha::Opts::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.worker_threads.get())
        .enable_all()
        .build()
        .expect("no threads for the load generator");
    match runtime.block_on(oha::run(options)) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("oha: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
