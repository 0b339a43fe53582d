;; Prints one line with a nonce that is part of the module itself: only a run of exactly these bytes can print it.
;; The 32 places of the nonce are filled in before the text is turned into a module.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; iovec: address 64, length 49 ("edgefleet-smoke " + nonce + newline)
  (data (i32.const 0) "\40\00\00\00\31\00\00\00")
  (data (i32.const 64) "edgefleet-smoke @@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\0a")
  (func (export "_start")
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16))
      (then unreachable))))
