fn main() -> std::process::ExitCode {
    if let Some(code) = sumpeer::cli::helper::dispatch(std::env::args_os()) {
        return code;
    }
    std::process::ExitCode::SUCCESS
}
