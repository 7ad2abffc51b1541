/** The type of the norm that a step reports, by the options that were given. */

import type { Chosen } from "../option.js";
import type { sharedOptions } from "./definition.js";

/** The options that decide whether a step computes the norm of the gradients. */
export interface NormOptions extends Pick<
  Partial<Chosen<typeof sharedOptions>>,
  "clipNorm" | "clipTensorNorm" | "nonFinite" | "lossScale" | "accumulate"
> {}

/**
 * The type of all options, from which TypeScript infers `Norm`. It reads both branches, and then takes the second: `Norm` is never
 * `unknown`. So hovers and errors show the options alone. `All` must not be the type that callers name, because TypeScript infers
 * nothing from a value of the same type.
 */
export type Inferred<Norm, All> = unknown extends Norm
  ? { readonly [Name in keyof Norm & keyof NormOptions]: Norm[Name] }
  : All;

/** The type of `clipNorm` and `clipTensorNorm`. */
type Clip<Norm> = Norm extends { readonly clipNorm: infer Clip } | { readonly clipTensorNorm: infer Clip }
  ? Clip
  : unknown;

/** Whether a type is that of literals such as 1. The type `number` includes Infinity. */
type IsLiteral<N> = [N] extends [number] ? (number extends N ? false : true) : false;

/**
 * The type of `gradNorm`: a number if the options are known to need it, undefined if none of them is given. Micro-batches have no
 * norm.
 */
export type GradNorm<Norm> = keyof Norm extends never
  ? undefined
  : "accumulate" extends keyof Norm
    ? number | undefined
    : Norm extends { readonly nonFinite: "throw" | "skip" } | { readonly lossScale: "dynamic" }
      ? number
      : IsLiteral<Clip<Norm>> extends true
        ? number
        : number | undefined;
