// The options of `veneer augment` as the body of the request, docs/api.md "Submit".
import { targetOf } from './build-request.ts';
import type { TargetName } from './image-options.ts';
import type { LayerOption } from './layer-option.ts';
import type { SentBytes } from './sender.ts';

export interface AugmentCommandOptions {
  readonly platform?: readonly string[];
  readonly env?: readonly string[];
  readonly label?: Readonly<Record<string, string>>;
  readonly entrypoint?: readonly string[];
  readonly cmd?: readonly string[];
  readonly workdir?: string;
  readonly user?: string;
  readonly port?: readonly string[];
  readonly annotation?: Readonly<Record<string, string>>;
  readonly layer?: readonly LayerOption[];
  readonly include?: readonly string[];
  readonly tag?: TargetName;
  readonly freeze?: boolean;
  readonly mirror?: boolean;
}

export interface SentLayer extends SentBytes {
  readonly platforms?: readonly string[] | undefined;
}

/** What is undefined is not sent. */
export function augmentRequestOf(image: string, options: AugmentCommandOptions, layers: readonly SentLayer[]): object {
  const containerConfig = {
    env: options.env,
    labels: options.label,
    entrypoint: options.entrypoint,
    cmd: options.cmd,
    workingDir: options.workdir,
    user: options.user,
    exposedPorts: options.port,
    annotations: options.annotation,
    layers: layers.length > 0 ? layers : undefined,
  };
  const isChanged = Object.values(containerConfig).some(change => change !== undefined);
  return {
    containerImage: image,
    containerPlatform: options.platform?.join(','),
    containerConfig: isChanged ? containerConfig : undefined,
    containerIncludes: options.include,
    ...targetOf(options.tag, options.freeze ?? (options.mirror ? false : undefined)),
    mirror: options.mirror,
  };
}
