;; Prints its arguments, then its environment, each entry ended by a NUL byte, as WASI hands them over.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  ;; 0: count, 4: bytes, 8: iovec, 16: written; 1024: pointers; 16384: strings. 128 KiB hold what the host passes.
  (memory (export "memory") 2)

  (func $must (param $errno i32)
    (if (local.get $errno) (then unreachable)))

  (func $write_strings
    (i32.store (i32.const 8) (i32.const 16384))
    (i32.store (i32.const 12) (i32.load (i32.const 4)))
    (call $must (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16))))

  (func (export "_start")
    (call $must (call $args_sizes_get (i32.const 0) (i32.const 4)))
    (call $must (call $args_get (i32.const 1024) (i32.const 16384)))
    (call $write_strings)
    (call $must (call $environ_sizes_get (i32.const 0) (i32.const 4)))
    (call $must (call $environ_get (i32.const 1024) (i32.const 16384)))
    (call $write_strings)))
