// node read_message.mjs FILE...: prints the message in each Arrow IPC stream as a line of JSON.
//
// JSON has no tuples, bytes or shared objects, so values are tagged: {"list": [...], "id": 3}, and
// {"ref": 3} where the same object is met again. test_arrow_js.py describes Python's objects in the
// same way and compares.

import { readFileSync } from 'node:fs';
import * as message from './message.mjs';

function hex(bytes) {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}

// All bits of it: JSON has neither -0 nor NaN.
function bits(number) {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, number);
  return hex(view);
}

class Description {
  constructor() { this.ids = new Map(); }

  all(values) { return Array.from(values, (value) => this.describe(value)); }

  describe(value) {
    if (typeof value === 'number') return { number: bits(value) };
    if (typeof value === 'bigint') return { bigint: String(value) };
    if (value === null || typeof value !== 'object') return value;
    if (value instanceof message.Global) return { global: `${value.module}.${value.qualname}` };
    if (value instanceof message.Complex) {
      return { complex: [bits(value.real), bits(value.imaginary)] };
    }
    if (this.ids.has(value)) return { ref: this.ids.get(value) };
    const id = this.ids.size;
    this.ids.set(value, id);
    return { ...this.contents(value), id };
  }

  contents(value) {
    if (value instanceof message.Tensor) return { tensor: this.tensor(value) };
    if (value instanceof message.ByteArray) return { bytearray: hex(value) };
    if (value instanceof Uint8Array) return { bytes: hex(value) };
    if (value instanceof message.Tuple) return { tuple: this.all(value) };
    if (Array.isArray(value)) return { list: this.all(value) };
    if (value instanceof message.FrozenSet) return { frozenset: this.all(value) };
    if (value instanceof Set) return { set: this.all(value) };
    if (value instanceof Map) {
      return { dict: Array.from(value, (pair) => this.all(pair)) };
    }
    if (value instanceof message.Instance) {
      return { instance: this.all([value.cls, value.state]) };
    }
    return { reduction: this.all(Object.values(value)) };
  }

  tensor({ dtype, shape, order, data }) {
    const values = Array.from(data, String);
    return { dtype, shape, order, type: data.constructor.name, values };
  }
}

for (const file of process.argv.slice(2)) {
  const value = message.readMessage(readFileSync(file));
  console.log(JSON.stringify(new Description().describe(value)));
}
