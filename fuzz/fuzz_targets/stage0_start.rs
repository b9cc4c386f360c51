//! The file of the agent's arguments: its lines are the arguments, and nothing else is.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(arguments) = stage0::arguments(bytes) {
        let (agent, lines) = arguments.split_first().expect("the agent's name is first");
        assert_eq!(agent.as_bytes(), b"/agent");
        let lines = lines.iter().map(|line| [line.as_bytes(), b"\n"].concat());
        assert_eq!(lines.collect::<Vec<_>>().concat(), bytes);
    }
});
