/** The factory of a rule's optimizers for TensorFlow.js. */

import { serialization } from "@tensorflow/tfjs-core";
import type { Rule } from "../optimizer/definition.js";
import type { Values } from "../optimizer/hyper.js";
import { optionsFrom } from "./config.js";
import { TfjsOptimizer, type VariableGroup } from "./optimizer.js";

type AnyFactory = ((params: any, options?: any) => { readonly hyper: unknown }) & { readonly rule: Rule };

/** The options of a rule's factory, without the params. */
type OptionsOf<Factory extends AnyFactory> = Omit<NonNullable<Parameters<Factory>[1]>, "zeroGrad">;

/** The options that a group may have of its own. */
type GroupOptionsOf<Factory extends AnyFactory> =
  ReturnType<Factory> extends { addGroup(group: infer Group): unknown } ? Omit<Group, "params"> : never;

export interface TfjsFactory<Factory extends AnyFactory> {
  (
    options?: OptionsOf<Factory> & { readonly groups?: readonly (VariableGroup & GroupOptionsOf<Factory>)[] },
  ): TfjsOptimizer<ReturnType<Factory>["hyper"]>;
  /** The rule itself: its options, their defaults and ranges, its state. */
  readonly rule: Rule;
}

/** Makes the factory, and registers the class of its optimizers, so that `tf.loadLayersModel` finds it. */
export function tfjsFactory<Factory extends AnyFactory>({ rule }: Factory): TfjsFactory<Factory> {
  class RuleOptimizer extends TfjsOptimizer {
    static className = `Downhill${rule.name[0]!.toUpperCase()}${rule.name.slice(1)}`;

    constructor(options: Values) {
      super(rule, options);
    }

    static override fromConfig<T extends serialization.Serializable>(
      cls: serialization.SerializableConstructor<T>,
      config: serialization.ConfigDict,
    ): T {
      return new cls(optionsFrom(config));
    }
  }
  serialization.registerClass(RuleOptimizer);
  const factory = (options: object = {}) => new RuleOptimizer(options as Values);
  return Object.assign(factory, { rule }) as unknown as TfjsFactory<Factory>;
}
