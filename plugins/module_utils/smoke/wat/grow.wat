;; Takes ever more memory, 8 MiB at a time, writes to all of it, and prints how much it has, one character a step. It ends by
;; itself at 192 MiB, so that a host on which no limit holds is not harmed.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1 3073)
  (data (i32.const 0) "\10\00\00\00\01\00\00\00")   ;; iovec: address 16, length 1
  (data (i32.const 16) ".")
  (data (i32.const 24) "\20\00\00\00\05\00\00\00")  ;; iovec: address 32, length 5
  (data (i32.const 32) " end\0a")
  (func (export "_start")
    (local $at i32)
    (block $done
      (loop $next
        (local.set $at (i32.shl (memory.grow (i32.const 128)) (i32.const 16)))
        (br_if $done (i32.eq (local.get $at) (i32.const -65536)))
        (memory.fill (local.get $at) (i32.const 1) (i32.const 8388608))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 40)))
        (br $next)))
    (drop (call $fd_write (i32.const 1) (i32.const 24) (i32.const 1) (i32.const 40)))))
