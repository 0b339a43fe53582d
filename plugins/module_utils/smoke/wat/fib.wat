;; fib(N) the slow way, N being the first argument. Prints "fib N RESULT NANOSECONDS": the time is taken inside, so that
;; it holds no start of a container and no loading of an engine.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  ;; 0: argument count, 4: bytes of arguments, 8: iovec, 16: written, 24: clock; 64: digits; 128: the line;
  ;; 1024: pointers to the arguments, 4096: the arguments
  (memory (export "memory") 1)
  (data (i32.const 128) "fib ")
  (global $end (mut i32) (i32.const 132))

  (func $must (param $errno i32)
    (if (local.get $errno) (then unreachable)))

  (func $now (result i64)
    (call $must (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 24)))
    (i64.load (i32.const 24)))

  (func $fib (param $n i32) (result i64)
    (if (result i64) (i32.lt_u (local.get $n) (i32.const 2))
      (then (i64.extend_i32_u (local.get $n)))
      (else (i64.add
        (call $fib (i32.sub (local.get $n) (i32.const 1)))
        (call $fib (i32.sub (local.get $n) (i32.const 2)))))))

  ;; The decimal number at an address, up to its NUL byte; anything else traps.
  (func $parse (param $at i32) (result i32)
    (local $value i32) (local $digit i32)
    (loop $next
      (local.set $digit (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)))
      (if (i32.gt_u (local.get $digit) (i32.const 9)) (then unreachable))
      (local.set $value (i32.add (i32.mul (local.get $value) (i32.const 10)) (local.get $digit)))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.load8_u (local.get $at))))
    (local.get $value))

  (func $put (param $byte i32)
    (i32.store8 (global.get $end) (local.get $byte))
    (global.set $end (i32.add (global.get $end) (i32.const 1))))

  ;; A number in decimal, then a separator: digits are made from the last to the first, below address 96.
  (func $put_number (param $value i64) (param $separator i32)
    (local $at i32)
    (local.set $at (i32.const 96))
    (loop $next
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at)
        (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (local.get $value) (i64.const 10)))))
      (local.set $value (i64.div_u (local.get $value) (i64.const 10)))
      (br_if $next (i64.ne (local.get $value) (i64.const 0))))
    (loop $copy
      (call $put (i32.load8_u (local.get $at)))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $copy (i32.lt_u (local.get $at) (i32.const 96))))
    (call $put (local.get $separator)))

  (func (export "_start")
    (local $n i32) (local $began i64) (local $took i64) (local $result i64)
    (call $must (call $args_sizes_get (i32.const 0) (i32.const 4)))
    (if (i32.ne (i32.load (i32.const 0)) (i32.const 2)) (then unreachable))
    (call $must (call $args_get (i32.const 1024) (i32.const 4096)))
    (local.set $n (call $parse (i32.load (i32.const 1028))))
    (local.set $began (call $now))
    (local.set $result (call $fib (local.get $n)))
    (local.set $took (i64.sub (call $now) (local.get $began)))
    (call $put_number (i64.extend_i32_u (local.get $n)) (i32.const 32))
    (call $put_number (local.get $result) (i32.const 32))
    (call $put_number (local.get $took) (i32.const 10))
    (i32.store (i32.const 8) (i32.const 128))
    (i32.store (i32.const 12) (i32.sub (global.get $end) (i32.const 128)))
    (call $must (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)))))
