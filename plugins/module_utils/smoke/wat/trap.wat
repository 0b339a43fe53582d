;; Prints "before", traps. "after" on its output means that the trap was not seen.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\40\00\00\00\07\00\00\00")   ;; iovec: address 64, length 7
  (data (i32.const 8) "\50\00\00\00\06\00\00\00")   ;; iovec: address 80, length 6
  (data (i32.const 64) "before\0a")
  (data (i32.const 80) "after\0a")
  (func (export "_start")
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
    unreachable
    (drop (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 32)))))
