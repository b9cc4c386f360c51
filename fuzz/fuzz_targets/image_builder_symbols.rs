//! The symbols of a module and the list that they are held against: a module that fits does so a second time, and against a
//! list that is longer as well.
#![no_main]

use image_builder::compile::out_of_tree::symbols::{Symvers, check, magic};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Symvers::parse(bytes);
    let Ok(magic) = magic(bytes) else {
        return;
    };
    let text = b"0x00000001\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n0x00000002\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n";
    let list = Symvers::parse(text).expect("two symbols");
    let other = Symvers::parse(b"0x00000003\tmore\tmore\tEXPORT_SYMBOL\t\n").expect("one symbol");
    let fits = check(bytes, &magic, &[&list]);
    assert_eq!(check(bytes, &magic, &[&list]), fits);
    if fits.is_ok() {
        assert_eq!(check(bytes, &magic, &[&other, &list]), Ok(()));
    }
    assert!(check(bytes, &format!("{magic}x"), &[&list]).is_err());
});
