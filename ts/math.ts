/**
 * Sizes and sums; and powers, logarithms and cosines with the same bits on every engine, which `Math` does not promise.
 * These functions consist of sums and products, after Sun's fdlibm (1993). Powers are within 32 units in the last place,
 * the others within two. Schedules and the scalars of rules need them.
 */

/** The smallest multiple of `multiple` that is at least `x`. */
export const roundUp = (x: number, multiple: number): number => Math.ceil(x / multiple) * multiple;

export const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

/** The largest of many numbers, and of `least`. Spread into `Math.max`, more than some 100,000 would not fit the stack. */
export const largest = (numbers: readonly number[], least = 0): number =>
  numbers.reduce((most, number) => Math.max(most, number), least);

const bits = new DataView(new ArrayBuffer(8));

/** 2 to the power `n`, a whole number in [-1022, 1023]. */
export function powerOfTwo(n: number): number {
  bits.setUint32(0, (n + 1023) << 20);
  bits.setUint32(4, 0);
  return bits.getFloat64(0);
}

/** The smallest normal double. */
const MIN_NORMAL_F64 = 2.2250738585072014e-308;

const LN2_HIGH = 6.9314718036912381649e-1;
const LN2_LOW = 1.90821492927058770002e-10;

/** The value of the polynomial with these coefficients, the constant first, at x. */
const polynomial = (x: number, coefficients: readonly number[]) =>
  coefficients.reduceRight((sum, coefficient) => sum * x + coefficient, 0);

/** The natural logarithm of a number above zero. */
export function log(x: number): number {
  if (!(x > 0 && x < Infinity)) return x === 0 ? -Infinity : x === Infinity ? Infinity : Number.NaN;
  let exponent = 0;
  if (x < MIN_NORMAL_F64) {
    x *= 2 ** 54;
    exponent = -54;
  }
  bits.setFloat64(0, x);
  const high = bits.getUint32(0);
  // x = 2^exponent * (1 + f), 1 + f between the roots of a half and of two
  const above = (high & 0xfffff) >= 0x6a09f ? 1 : 0;
  exponent += (high >>> 20) - 1023 + above;
  bits.setUint32(0, (high & 0xfffff) | ((1023 - above) << 20));
  const f = bits.getFloat64(0) - 1;
  const s = f / (2 + f);
  const r =
    s *
    s *
    polynomial(
      s * s,
      [
        6.66666666666673513e-1, 3.999999999940941908e-1, 2.857142874366239149e-1, 2.222219843214978396e-1,
        1.818357216161805012e-1, 1.531383769920937332e-1, 1.479819860511658591e-1,
      ],
    );
  const half = 0.5 * f * f;
  return exponent * LN2_HIGH - (half - (s * (half + r) + exponent * LN2_LOW) - f);
}

/** e to the power x. */
export function exp(x: number): number {
  if (x > 709.78) return Infinity;
  if (x < -745.14) return 0;
  if (Number.isNaN(x)) return x;
  const k = Math.trunc(x * 1.442695040888963387 + (x < 0 ? -0.5 : 0.5));
  const [high, low] = [x - k * LN2_HIGH, k * LN2_LOW];
  const r = high - low;
  const c =
    r -
    r *
      r *
      polynomial(
        r * r,
        [
          1.66666666666666019037e-1, -2.77777777770155933842e-3, 6.61375632143793436117e-5, -1.6533902205465251539e-6,
          4.13813679705723846039e-8,
        ],
      );
  const y = 1 - (low - (r * c) / (2 - c) - high);
  const half = Math.trunc(k / 2); // in two steps, because 2^k may be out of range when the result is not
  return y * powerOfTwo(half) * powerOfTwo(k - half);
}

/** `base`, 0 or more, to the power `exponent`: by squaring if that is a whole number. */
export function pow(base: number, exponent: number): number {
  if (!Number.isInteger(exponent)) return base === 0 ? (exponent > 0 ? 0 : Infinity) : exp(exponent * log(base));
  let result = 1;
  for (let [left, square] = [Math.abs(exponent), base]; left > 0; left = Math.floor(left / 2), square *= square) {
    if (left % 2 === 1) result *= square;
  }
  return exponent < 0 ? 1 / result : result;
}

/** The cosine of pi times x. The argument is reduced exactly. */
export function cosPi(x: number): number {
  const turned = Math.abs(x) % 2;
  const folded = turned > 1 ? 2 - turned : turned; // in [0, 1]
  if (folded > 0.5) return -cosPi(1 - folded);
  if (folded > 0.25) return sinSmall((0.5 - folded) * PI);
  return cosSmall(folded * PI);
}

const PI = 3.141592653589793116;

/** For angles up to a quarter of pi. */
function sinSmall(x: number): number {
  const z = x * x;
  return (
    x +
    x *
      z *
      polynomial(
        z,
        [
          -1.66666666666666324348e-1, 8.33333333332248946124e-3, -1.98412698298579493134e-4, 2.75573137070700676789e-6,
          -2.50507602534068634195e-8, 1.58969099521155010221e-10,
        ],
      )
  );
}

function cosSmall(x: number): number {
  const z = x * x;
  const tail =
    z *
    z *
    polynomial(
      z,
      [
        4.16666666666666019037e-2, -1.38888888888741095749e-3, 2.48015872894767294178e-5, -2.75573143513906633035e-7,
        2.0875723212981748279e-9, -1.13596475577881948265e-11,
      ],
    );
  const half = 0.5 * z;
  const whole = 1 - half;
  return whole + (1 - whole - half + tail);
}
