/** The arrays of a TensorFlow.js backend, as memory that the kernels can work on. */

import { engine, type Tensor, type Variable } from "@tensorflow/tfjs-core";
import { allocateSpace } from "../arena/memory.js";
import { padded, type Shape, sizeOf } from "../arena/tensor.js";
import { roundUp } from "../math.js";

type Backend = ReturnType<typeof engine>["backend"];

/** Whether a variable is disposed. `tf.disposeVariables()` does not mark variables, but they are no longer registered. */
export const isGone = (variable: Variable): boolean =>
  variable.isDisposed || engine().registeredVariables[variable.name] !== variable;

/** Disposes variables that are not disposed. Disposing one twice frees the data of tensors that share it. */
export function release(variables: Iterable<Variable>): void {
  for (const variable of variables) if (!isGone(variable)) variable.dispose();
}

/** A region of memory that is reused until more is needed. */
interface Region {
  readonly address: number;
  readonly bytes: number;
  free(): void;
}

/**
 * Memory of a backend. A variable's array is padded with zeros to whole cache lines, and no other tensor shares it. So
 * a kernel can update it in place.
 */
export abstract class Host {
  readonly backend: Backend;
  abstract readonly memory: WebAssembly.Memory;
  readonly #regions = new Map<string, Region>();

  constructor(backend: Backend) {
    this.backend = backend;
  }

  /** The address of a variable's array. Gives the variable an array of its own if it has none. */
  abstract address(variable: Variable): number;

  /** Returns the address of the gradient: its own, or that of a copy. */
  abstract gradient(grad: Tensor, copy: number): number;

  /** Whether gradients of this size are copied. */
  abstract copies(size: number): boolean;

  /** Makes the values that a step wrote visible in the variables. */
  abstract publish(variables: Iterable<Variable>): void;

  /** Makes a variable for state. It starts at a number, or as a copy of another variable. */
  make(shape: Shape, start: number | Variable): Variable {
    const values = typeof start === "number" ? new Float32Array(sizeOf("state", shape)).fill(start) : start.dataSync();
    const initial = engine().makeTensor(values, [...shape], "float32");
    const variable = engine().makeVariable(initial, false) as Variable;
    initial.dispose();
    return variable;
  }

  protected abstract allocate(bytes: number): Region;

  /** The address of zeroed bytes, a multiple of 64. The bytes that had the same name are freed. */
  region(name: string, bytes: number): number {
    let region = this.#regions.get(name);
    if (region === undefined || region.bytes < bytes) {
      region?.free();
      this.#regions.delete(name); // allocating may fail
      region = this.allocate(Math.max(bytes, 2 * (region?.bytes ?? 0)));
      this.#regions.set(name, region);
    }
    new Uint8Array(this.memory.buffer, region.address, region.bytes).fill(0);
    return region.address;
  }

  floats(address: number, length: number): Float32Array {
    return new Float32Array(this.memory.buffer, address, length);
  }

  /** Frees the regions. */
  dispose(): void {
    for (const region of this.#regions.values()) region.free();
    this.#regions.clear();
  }
}

/** The part of the backend `wasm` that this adapter uses. */
interface WasmBackend {
  readonly wasm: {
    readonly wasmMemory?: WebAssembly.Memory;
    readonly asm?: { readonly memory?: unknown };
    readonly tfjs: {
      registerTensor(id: number, size: number, address: number): void;
      disposeData(id: number): void;
    };
    _malloc(bytes: number): number;
  };
  readonly dataIdMap: { get(dataId: object): WasmData };
  makeOutput(shape: Shape, dtype: "float32", address: number): { dataId: object; shape: number[]; dtype: "float32" };
}

interface WasmData {
  readonly id: number;
  readonly memoryOffset: number;
  readonly refCount: number;
}

/** The arrays that are padded, by any optimizer. */
const paddedArrays = new WeakSet<WasmData>();

/** The backend `wasm`: the kernels work on its own memory. */
class WasmHost extends Host {
  readonly memory: WebAssembly.Memory;
  readonly #wasm: WasmBackend;

  constructor(backend: Backend, memory: WebAssembly.Memory) {
    super(backend);
    this.memory = memory;
    this.#wasm = backend as unknown as WasmBackend;
  }

  /** The memory of the backend, with and without threads; undefined for another backend. */
  static memoryOf(backend: Backend): WebAssembly.Memory | undefined {
    const { wasm, dataIdMap } = backend as unknown as Partial<WasmBackend>;
    const memory = dataIdMap && (wasm?.wasmMemory ?? wasm?.asm?.memory);
    return memory instanceof WebAssembly.Memory ? memory : undefined;
  }

  address(variable: Variable): number {
    const data = this.#wasm.dataIdMap.get(variable.dataId); // moves it from another backend
    if (data.refCount === 1 && paddedArrays.has(data)) return data.memoryOffset;
    const { size } = variable;
    const address = this.#malloc(4 * padded(size));
    this.floats(address, padded(size)).fill(0, size);
    this.floats(address, size).set(this.floats(data.memoryOffset, size));
    const tensor = engine().makeTensorFromTensorInfo(this.#wasm.makeOutput(variable.shape, "float32", address));
    variable.assign(tensor);
    tensor.dispose();
    paddedArrays.add(this.#wasm.dataIdMap.get(variable.dataId));
    return address;
  }

  copies(size: number): boolean {
    return size !== padded(size);
  }

  gradient(grad: Tensor, copy: number): number {
    const { memoryOffset } = this.#wasm.dataIdMap.get(grad.dataId);
    if (copy === 0) return memoryOffset;
    this.floats(copy, grad.size).set(this.floats(memoryOffset, grad.size));
    return copy;
  }

  /** Makes the backend forget what it derived from the old values: XNNPACK keeps the weights of its layers in another order. */
  publish(variables: Iterable<Variable>): void {
    const { tfjs } = this.#wasm.wasm;
    for (const { dataId, size } of variables) {
      const { id, memoryOffset } = this.#wasm.dataIdMap.get(dataId);
      tfjs.disposeData(id);
      tfjs.registerTensor(id, size, memoryOffset);
    }
  }

  protected allocate(bytes: number): Region {
    const length = Math.ceil(bytes / 4) + 16;
    const address = this.#malloc(4 * length);
    const info = this.#wasm.makeOutput([length], "float32", address);
    const tensor = engine().keep(engine().makeTensorFromTensorInfo(info));
    return { address: roundUp(address, 64), bytes, free: () => tensor.dispose() };
  }

  #malloc(bytes: number): number {
    const address = this.#wasm.wasm._malloc(bytes) >>> 0;
    if (address === 0) throw new RangeError(`out of memory: TensorFlow.js's backend wasm has no ${bytes} bytes left`);
    return address;
  }
}

/** An array of this package with the values of a variable. */
interface Copy {
  readonly view: Float32Array;
  readonly region: Region;
  /** The data of the variable that has the same values. */
  dataId: object;
}

/**
 * Any other backend: the kernels work on copies, in memory of this package. Arrays of the backend `cpu` are not used in
 * place, because programs hold them: `variable.dataSync()` returns the array itself.
 */
class CopyingHost extends Host {
  readonly #space = allocateSpace("downhill/tfjs", undefined, false);
  readonly #copies = new Map<Variable, Copy>();
  /** The addresses of memory that is free again, by its number of bytes. */
  readonly #free = new Map<number, number[]>();
  /** The number of copies at which disposed variables are looked for. */
  #sweepAt = 64;

  get memory(): WebAssembly.Memory {
    return this.#space.memory;
  }

  address(variable: Variable): number {
    const known = this.#copies.get(variable);
    if (known?.dataId === variable.dataId) return known.view.byteOffset;
    const region = known?.region ?? this.#array(variable.size);
    const view = known?.view ?? this.floats(region.address, variable.size);
    view.set(variable.dataSync());
    this.#copies.set(variable, { view, region, dataId: variable.dataId });
    return view.byteOffset;
  }

  copies(): boolean {
    return true;
  }

  gradient(grad: Tensor, copy: number): number {
    this.floats(copy, grad.size).set(grad.dataSync());
    return copy;
  }

  override dispose(): void {
    super.dispose();
    this.#space.close();
  }

  publish(variables: Iterable<Variable>): void {
    for (const variable of variables) {
      const copy = this.#copies.get(variable);
      if (copy === undefined) continue;
      const tensor = engine().makeTensor(copy.view.slice(), variable.shape, "float32");
      variable.assign(tensor);
      tensor.dispose();
      copy.dataId = variable.dataId;
    }
  }

  protected allocate(bytes: number): Region {
    const size = roomFor(bytes);
    const address = this.#free.get(size)?.pop() ?? this.#space.reserve(size, "an optimizer's state");
    const free = () => {
      const others = this.#free.get(size);
      if (others) others.push(address);
      else this.#free.set(size, [address]);
    };
    return { address, bytes: size, free };
  }

  #array(size: number): Region {
    const bytes = 4 * padded(size);
    if (this.#copies.size >= this.#sweepAt || this.#space.left < roomFor(bytes)) this.#sweep();
    const region = this.allocate(bytes);
    this.floats(region.address, padded(size)).fill(0, size); // the padding
    return region;
  }

  #sweep(): void {
    for (const [variable, { region }] of this.#copies) {
      if (!isGone(variable)) continue;
      this.#copies.delete(variable);
      region.free();
    }
    this.#sweepAt = 2 * this.#copies.size + 64;
  }
}

/**
 * The number of bytes to allocate if `bytes` are needed: up to an eighth more, so that the memory fits other arrays
 * later.
 */
function roomFor(bytes: number): number {
  let unit = 64;
  while (bytes > 16 * unit) unit *= 2;
  return roundUp(bytes, unit);
}

/** Makes the host of the backend in use. */
export function hostOf(backend: Backend): Host {
  const memory = WasmHost.memoryOf(backend);
  return memory ? new WasmHost(backend, memory) : new CopyingHost(backend);
}
