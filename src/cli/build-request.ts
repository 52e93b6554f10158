// The options of `veneer build` as the body of the request, docs/api.md "Submit".
import type { CompressionOption } from './build-options.ts';
import type { ContainerFile } from './container-file.ts';
import type { TargetName } from './image-options.ts';
import type { SentBytes } from './sender.ts';

export interface BuildCommandOptions {
  readonly file?: string;
  readonly platform?: readonly string[];
  readonly tag?: TargetName;
  readonly buildArg?: Readonly<Record<string, string>>;
  readonly target?: string;
  readonly label?: Readonly<Record<string, string>>;
  readonly secret?: readonly string[];
  readonly network?: string;
  readonly provenance?: string;
  readonly sbom?: boolean;
  readonly cache?: string;
  readonly compression?: CompressionOption;
  readonly freeze?: boolean;
  readonly timeout?: string;
  readonly dryRun?: boolean;
}

/** What is undefined is not sent. */
export function buildRequestOf(options: BuildCommandOptions, file: ContainerFile, buildContext?: SentBytes): object {
  const { sbom, provenance } = options;
  return {
    containerFile: Buffer.from(file.text).toString('base64'),
    containerPlatform: options.platform?.join(','),
    buildContext,
    ...targetOf(options.tag, options.freeze),
    buildArgs: options.buildArg,
    buildTarget: options.target,
    buildLabels: options.label,
    buildSecrets: options.secret,
    buildNetwork: options.network,
    buildAttestations: sbom || provenance ? { sbom, provenance } : undefined,
    cacheRepository: options.cache,
    buildCompression: options.compression,
    buildTimeout: options.timeout,
    dryRun: options.dryRun,
  };
}

/** An image that is given a name is to be found under it: it is frozen, unless it is mirrored. */
export function targetOf(name: TargetName | undefined, isFrozen: boolean | undefined) {
  return { buildRepository: name?.repository, buildTag: name?.tag, freeze: isFrozen ?? (name && true) };
}
