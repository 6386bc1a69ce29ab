//! What the C++ test asks of the Rust bindings: copies of messages, and the layout of the mirror.
use std::ffi::CStr;
use std::os::raw::c_char;

pub mod fb;
#[path = "copy.rs"]
mod copying;

/// 0 refused, 1 copied, -1 no such table, -2 panicked. Free what it gives with `gantry_test_free`.
///
/// # Safety
/// Pointers as their names say.
#[no_mangle]
pub unsafe extern "C" fn gantry_test_copy_rust(name: *const c_char, data: *const u8, len: usize, out: *mut *mut u8, out_len: *mut usize) -> i32 {
    let name = CStr::from_ptr(name).to_str().unwrap_or("");
    let bytes = if len == 0 { &[] } else { std::slice::from_raw_parts(data, len) };
    match std::panic::catch_unwind(|| copying::copy(name, bytes)) {
        Ok(Some(Some(copy))) => {
            let copy = copy.into_boxed_slice();
            *out_len = copy.len();
            *out = Box::into_raw(copy) as *mut u8;
            1
        }
        Ok(Some(None)) => 0,
        Ok(None) => -1,
        Err(_) => -2,
    }
}

/// # Safety
/// Once, with what `gantry_test_copy_rust` or `gantry_test_layout` gave.
#[no_mangle]
pub unsafe extern "C" fn gantry_test_free(data: *mut u8, len: usize) {
    drop(Box::from_raw(std::slice::from_raw_parts_mut(data, len)));
}

/// # Safety
/// `len` is written.
#[no_mangle]
pub unsafe extern "C" fn gantry_test_layout(len: *mut usize) -> *mut u8 {
    let text = (gantry::abi::layout() + &gantry::abi::constants()).into_bytes().into_boxed_slice();
    *len = text.len();
    Box::into_raw(text) as *mut u8
}
