;; Prints "ready", then waits for the end of its standard input: meanwhile the host looks at what is loaded.
;; Its input ends with whoever started it, so it never outlives a smoke test that was killed.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\40\00\00\00\06\00\00\00")   ;; iovec: address 64, length 6
  (data (i32.const 8) "\50\00\00\00\01\00\00\00")   ;; iovec: address 80, length 1
  (data (i32.const 64) "ready\0a")
  (func (export "_start")
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32))
      (then unreachable))
    (drop (call $fd_read (i32.const 0) (i32.const 8) (i32.const 1) (i32.const 32)))))
