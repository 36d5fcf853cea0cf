// A reader of pyray messages in JavaScript, from the Arrow IPC stream that `to_arrow_ipc` writes.
//
// docs/arrow.md describes the columns. Python's values become JavaScript's nearest: dict and set are
// Map and Set, int is a number or, beyond 2^53, a bigint, a numpy.ndarray is a Tensor whose typed
// array is a view of the stream. What is shared in Python is one object here too.

import { makeVector, tableFromIPC } from 'apache-arrow';

export class Tuple extends Array {}
export class FrozenSet extends Set {}
export class ByteArray extends Uint8Array {}

export class Complex {
  constructor(real, imaginary) { Object.assign(this, { real, imaginary }); }
}

// A class or function, known here by name alone.
export class Global {
  constructor(module, qualname) { Object.assign(this, { module, qualname }); }
}

// An instance of a Python class: the class and what its attributes hold.
export class Instance {
  constructor(cls) { Object.assign(this, { cls, state: undefined }); }
}

// Any other object: the call that makes it, and what is done to the result.
export class Reduction {
  constructor(fn, args) { Object.assign(this, { function: fn, arguments: args }); }
}

export class Tensor {
  constructor(dtype, shape, order, data) { Object.assign(this, { dtype, shape, order, data }); }
}

export function readMessage(stream) {
  const table = tableFromIPC(stream);
  if (table.numRows !== 1) throw new Error(`one row expected, not ${table.numRows}`);
  const version = table.schema.metadata.get('pyray:version');
  if (version !== '1') throw new Error(`format version ${version} is not version 1`);
  return new Reader(table).object(0, 0);
}

class Reader {
  constructor(table) {
    this.table = table;
    this.globals = this.column('globals').map((row) => new Global(row.module, row.qualname));
    this.buffers = this.column('buffers').map((row) => row.data.subarray(0, Number(row.size)));
    this.tensors = this.column('tensors').map((row) => this.tensor(row));
    this.nodes = breadthFirst(table);
    this.objects = []; // memo number -> object, once it exists
    this.entries = []; // memo number -> [node, row] where it is
    for (const { node, row, number } of this.column('memo')) {
      this.nodes[node].numbers ??= new Map();
      this.nodes[node].numbers.set(Number(row), number);
      this.entries[number] ??= [node, Number(row)];
    }
  }

  // The structs in the list of a column of one row.
  column(name) {
    return [...this.table.getChild(name).get(0)];
  }

  buffer(index) {
    if (index < 0) throw new Error('the message was written with its buffers out of band');
    return this.buffers[index];
  }

  tensor({ dtype, shape, order, buffer }) {
    const data = typedArray(dtype, this.buffer(buffer));
    return new Tensor(dtype, Array.from(shape, Number), order === 1 ? 'F' : 'C', data);
  }

  // The object in one row of one node, made once if it has a memo number.
  object(index, row) {
    const node = this.nodes[index];
    const number = node.numbers?.get(row);
    if (number !== undefined && number in this.objects) return this.objects[number];
    const exists = (object) => {
      if (number !== undefined) this.objects[number] ??= object;
      return object;
    };
    const object = READERS[node.kind].call(this, node, row, exists);
    // A tuple that contains itself has been completed within: that one is the object.
    return number !== undefined && number in this.objects ? this.objects[number] : exists(object);
  }

  reference(number) {
    return number in this.objects ? this.objects[number] : this.object(...this.entries[number]);
  }

  // The objects in the rows of a child that belong to one row of a list.
  * items(node, row, child = 0) {
    const end = Number(node.data.valueOffsets[row + 1]);
    for (let i = Number(node.data.valueOffsets[row]); i < end; i++) {
      yield this.object(node.children[child], i);
    }
  }
}

// -- nodes ---------------------------------------------------------------------------------------

// The nodes in the order in which the memo numbers them: the children of a node lie together, after
// the children of all nodes before it.
function breadthFirst(table) {
  const column = (name) => table.schema.fields.findIndex((field) => field.name === name);
  const dataOf = (name) => table.batches[0].data.children[column(name)];
  const continued = new Map();
  if (column('continued') >= 0) {
    for (const [i, field] of table.schema.fields[column('continued')].type.children.entries()) {
      continued.set(field.name, dataOf('continued').children[i]);
    }
  }
  const waiting = [onlyRow(dataOf('roots'))];
  const nodes = [];
  for (let place of waiting) { // which grows meanwhile
    if (place.metadata.get('pyray:kind') === 'CONTINUED') {
      place = onlyRow(continued.get(place.metadata.get('pyray:node')));
    }
    const children = childrenOf(place).map((child) => waiting.push(child) - 1);
    const kind = place.metadata.get('pyray:kind');
    nodes.push({ ...place, kind, children, vector: makeVector(place.data) });
  }
  return nodes;
}

function onlyRow(list) {
  return { data: list.children[0], ...describe(list.type.children[0]) };
}

function describe({ name, metadata }) {
  return { name: metadata.get('pyray:name') ?? name, metadata };
}

function childrenOf({ data, metadata }) {
  const kind = metadata.get('pyray:kind');
  if (kind === 'DICTIONARY') {
    const strings = new Map([['pyray:kind', 'UTF8']]);
    return [{ data: data.dictionary.data[0], name: '', metadata: strings }];
  }
  // Structs of one number, and complex numbers, are values; a dict's pairs are under a struct.
  if (!WITH_CHILDREN.has(kind)) return [];
  const [under, fields] = kind === 'DICT'
    ? [data.children[0], data.type.children[0].type.children]
    : [data, data.type.children];
  return fields.map((field, i) => ({ data: under.children[i], ...describe(field) }));
}

const WITH_CHILDREN = new Set(['LIST', 'TUPLE', 'SET', 'FROZENSET', 'DICT', 'DICT_RECORD',
  'TUPLE_RECORD', 'INSTANCE', 'REDUCE', 'UNION']);

// -- rows ----------------------------------------------------------------------------------------

const value = (node, row) => node.vector.get(row);
const index = (node, row) => node.data.children[0].values[row];

function integer(node, row) {
  const n = node.vector.get(row);
  return typeof n === 'bigint' ? narrow(n) : n;
}

function narrow(n) {
  return Number.isSafeInteger(Number(n)) ? Number(n) : n;
}

function bigInteger(node, row) {
  const bytes = node.vector.get(row);
  let n = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) n = (n << 8n) | BigInt(bytes[i]);
  return narrow(BigInt.asIntN(8 * bytes.length, n));
}

// UTF-8 in which a lone surrogate is coded like any character; JavaScript's strings may hold them.
function surrogates(node, row) {
  const bytes = node.vector.get(row);
  let text = '';
  for (let i = 0; i < bytes.length;) {
    const lead = bytes[i];
    const length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    let code = length === 1 ? lead : lead & (0x7f >> length);
    for (let j = 1; j < length; j++) code = (code << 6) | (bytes[i + j] & 0x3f);
    text += String.fromCodePoint(code);
    i += length;
  }
  return text;
}

function complex(node, row) {
  const { values } = node.data.children[0];
  return new Complex(values[2 * row], values[2 * row + 1]);
}

function list(node, row, exists) {
  const made = exists([]);
  for (const item of this.items(node, row)) made.push(item);
  return made;
}

function tuple(node, row) {
  const made = new Tuple();
  for (const item of this.items(node, row)) made.push(item);
  return made;
}

function set(node, row, exists) {
  const made = exists(new Set());
  for (const item of this.items(node, row)) made.add(item);
  return made;
}

function frozenSet(node, row) {
  return new FrozenSet(this.items(node, row));
}

function dict(node, row, exists) {
  const made = exists(new Map());
  const values = this.items(node, row, 1);
  for (const key of this.items(node, row, 0)) made.set(key, values.next().value);
  return made;
}

function dictRecord(node, row, exists) {
  const made = exists(new Map());
  for (const child of node.children) made.set(this.nodes[child].name, this.object(child, row));
  return made;
}

function tupleRecord(node, row) {
  return Tuple.of(...node.children.map((child) => this.object(child, row)));
}

function instance(node, row, exists) {
  const made = exists(new Instance(this.globals[Number(node.metadata.get('pyray:global'))]));
  made.state = this.object(node.children[0], row);
  return made;
}

function reduction(node, row, exists) {
  const part = Object.fromEntries(node.children.map((c) => [this.nodes[c].name, c]));
  const global = node.metadata.get('pyray:global');
  const fn = global === undefined
    ? this.object(part.function, row)
    : this.globals[Number(global)];
  const made = exists(new Reduction(fn, this.object(part.arguments, row)));
  for (const name of ['list_items', 'dict_items', 'state', 'setter']) {
    if (name in part) made[name] = this.object(part[name], row);
  }
  return made;
}

function union(node, row) {
  return this.object(node.children[node.data.typeIds[row]], node.data.valueOffsets[row]);
}

const READERS = {
  NULL: () => null,
  BOOL: value,
  INT8: integer,
  INT16: integer,
  INT32: integer,
  INT64: integer,
  FLOAT64: value,
  COMPLEX128: complex,
  UTF8: value,
  SURROGATES: surrogates,
  BYTES: value,
  BYTEARRAY: (node, row) => new ByteArray(node.vector.get(row)),
  BIGINT: bigInteger,
  DICTIONARY(node, row) { return this.object(node.children[0], node.data.values[row]); },
  REF(node, row) { return this.reference(index(node, row)); },
  GLOBAL(node, row) { return this.globals[index(node, row)]; },
  BYTES_BUFFER(node, row) { return this.buffer(index(node, row)); },
  BYTEARRAY_BUFFER(node, row) { return new ByteArray(this.buffer(index(node, row))); },
  BUFFER(node, row) { return this.buffer(index(node, row)); },
  BUFFER_WRITABLE(node, row) { return this.buffer(index(node, row)); },
  NDARRAY(node, row) { return this.tensors[index(node, row)]; },
  LIST: list,
  TUPLE: tuple,
  SET: set,
  FROZENSET: frozenSet,
  DICT: dict,
  DICT_RECORD: dictRecord,
  TUPLE_RECORD: tupleRecord,
  INSTANCE: instance,
  REDUCE: reduction,
  UNION: union,
};

// -- tensors -------------------------------------------------------------------------------------

// dtypes with a typed array; those of other kinds, and big-endian ones, stay bytes.
const TYPED = {
  i1: Int8Array, i2: Int16Array, i4: Int32Array, i8: BigInt64Array,
  u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, u8: BigUint64Array,
  f4: Float32Array, f8: Float64Array, c8: Float32Array, c16: Float64Array, b1: Uint8Array,
  m8: BigInt64Array, M8: BigInt64Array,
};

function typedArray(dtype, bytes) {
  const Type = dtype[0] === '>' ? undefined : TYPED[dtype.slice(1).replace(/\[.*/, '')];
  if (Type === undefined) return bytes;
  const { buffer, byteOffset, byteLength } = bytes;
  const size = Type.BYTES_PER_ELEMENT;
  // A stream that was cut out of a larger buffer may lie anywhere; a copy begins at 0.
  return byteOffset % size === 0
    ? new Type(buffer, byteOffset, byteLength / size)
    : new Type(bytes.slice().buffer);
}
