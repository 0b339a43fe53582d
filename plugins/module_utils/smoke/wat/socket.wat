;; Listens on 127.0.0.1 and the port that is its first argument, prints "ready", takes one connection, and sends back what
;; comes first on it. The functions are WasmEdge's, which are not part of WASI preview 1.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_open" (func $sock_open (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_bind" (func $sock_bind (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_listen" (func $sock_listen (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_accept" (func $sock_accept (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_recv" (func $sock_recv (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_send" (func $sock_send (param i32 i32 i32 i32 i32) (result i32)))
  ;; 0: argument count, 4: bytes, 8: iovec, 16: written, 20: listening socket, 24: connection, 28: flags;
  ;; 32: address (pointer, length); 40: 127.0.0.1; 64: the text; 1024: pointers, 2048: arguments; 4096: what came
  (memory (export "memory") 1)
  (data (i32.const 8) "\40\00\00\00\06\00\00\00")
  (data (i32.const 32) "\28\00\00\00\04\00\00\00\7f\00\00\01")
  (data (i32.const 64) "ready\0a")

  (func $must (param $errno i32)
    (if (local.get $errno) (then unreachable)))

  (func $parse (param $at i32) (result i32)
    (local $value i32)
    (loop $next
      (local.set $value (i32.add (i32.mul (local.get $value) (i32.const 10))
        (i32.sub (i32.load8_u (local.get $at)) (i32.const 48))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.load8_u (local.get $at))))
    (local.get $value))

  (func (export "_start")
    (call $must (call $args_sizes_get (i32.const 0) (i32.const 4)))
    (call $must (call $args_get (i32.const 1024) (i32.const 2048)))
    (call $must (call $sock_open (i32.const 1) (i32.const 2) (i32.const 20))) ;; IPv4, stream
    (call $must (call $sock_bind (i32.load (i32.const 20)) (i32.const 32)
      (call $parse (i32.load (i32.const 1028)))))
    (call $must (call $sock_listen (i32.load (i32.const 20)) (i32.const 1)))
    (call $must (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)))
    (call $must (call $sock_accept (i32.load (i32.const 20)) (i32.const 24)))
    (i32.store (i32.const 8) (i32.const 4096))
    (i32.store (i32.const 12) (i32.const 1024))
    (call $must (call $sock_recv (i32.load (i32.const 24)) (i32.const 8) (i32.const 1) (i32.const 0)
      (i32.const 16) (i32.const 28)))
    (i32.store (i32.const 12) (i32.load (i32.const 16)))
    (call $must (call $sock_send (i32.load (i32.const 24)) (i32.const 8) (i32.const 1) (i32.const 0) (i32.const 16)))))
