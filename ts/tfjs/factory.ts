/** The factory of a rule's optimizers for TensorFlow.js. */

import { serialization } from "@tensorflow/tfjs-core";
import type { AdapterFactory, AnyFactory } from "../adapter.js";
import { fixedOptions, refuseOptions } from "../optimizer/hyper.js";
import { factoryOf } from "../option.js";
import { optionsFrom } from "./config.js";
import type { VariableGroup } from "./groups.js";
import { TfjsOptimizer } from "./optimizer.js";

export type TfjsFactory<Factory extends AnyFactory> = AdapterFactory<
  Factory,
  VariableGroup,
  TfjsOptimizer<ReturnType<Factory>["hyper"]>
>;

/** Makes the factory, and registers the class of its optimizers, so that `tf.loadLayersModel` finds it. */
export function tfjsFactory<Factory extends AnyFactory>({ rule }: Factory): TfjsFactory<Factory> {
  class RuleOptimizer extends TfjsOptimizer {
    static className = `Downhill${rule.name[0]!.toUpperCase()}${rule.name.slice(1)}`;

    constructor(options: object) {
      super(rule, options);
    }

    static override fromConfig<T extends serialization.Serializable>(
      cls: serialization.SerializableConstructor<T>,
      config: serialization.ConfigDict,
    ): T {
      return new cls(optionsFrom(config));
    }
  }
  refuseOptions(RuleOptimizer.prototype, rule, "optimizer", fixedOptions(rule));
  serialization.registerClass(RuleOptimizer);
  const factory = (options: object = {}) => new RuleOptimizer(options);
  return factoryOf(rule.name, factory, { rule }) as TfjsFactory<Factory>;
}
