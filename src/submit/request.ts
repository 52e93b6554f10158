// A submit request as its route has parsed it: what the image is made from, what is changed in it, and where the result goes.
import type { Augmentation } from '../augment/augmentation.ts';
import type { BuildRequest } from '../builds/request.ts';
import type { Compression } from '../builds/spec.ts';
import type { Platform } from '../oci/platform.ts';
import type { WantedLayer } from '../pull/layers/describe-layer.ts';

export interface SubmitRequest {
  readonly source: SubmitSource;
  /** As asked. */
  readonly containerPlatform: string | undefined;
  /** Undefined: all platforms of the image. */
  readonly platforms: readonly Platform[] | undefined;
  /** Undefined where nothing in it is set. */
  readonly containerConfig: ContainerConfig | undefined;
  readonly containerIncludes: readonly string[];
  readonly towerWorkspaceId: number | undefined;
  readonly workflowId: string | undefined;
  readonly fingerprint: string | undefined;
  readonly dryRun: boolean;
  readonly build: RequestedBuild;
}

/** What the image is made from. */
export type SubmitSource =
  /** An image, as asked; parseReference takes it. */
  { readonly kind: 'image'; readonly image: string } | BuildSource;

export type BuildSource =
  /** The text of a Containerfile. */
  | { readonly kind: 'file'; readonly containerFile: string }
  /** As PlanPackages takes them. */
  | { readonly kind: 'packages'; readonly packages: unknown };

/** What the client wants changed in the image. */
export interface ContainerConfig extends Omit<Augmentation, 'layers' | 'env' | 'platforms' | 'attestations'> {
  /** Each KEY=VALUE. */
  readonly env?: string[] | undefined;
  readonly layers?: readonly RequestedLayer[] | undefined;
}

export interface RequestedLayer extends WantedLayer {
  readonly platforms?: string[] | undefined;
  readonly skipHashing?: boolean | undefined;
  readonly mediaType?: string | undefined;
}

/** What to build or copy, and how. */
export interface RequestedBuild {
  readonly buildContext?: RequestedContext | undefined;
  /** As asked, like every repository here. */
  readonly buildRepository?: string | undefined;
  readonly cacheRepository?: string | undefined;
  /** Keeps the image with its changes under a name of its own. */
  readonly freeze?: boolean | undefined;
  /** Copies the image as it is. */
  readonly mirror?: boolean | undefined;
  /** What the names of packages do to the name of the image. Default: tagPrefix. */
  readonly nameStrategy?: 'none' | 'tagPrefix' | 'imageSuffix' | undefined;
  readonly buildCompression?: Compression | undefined;
  readonly buildTemplate?: string | undefined;
  readonly buildTag?: string | undefined;
  /** In milliseconds. */
  readonly buildTimeout?: number | undefined;
  readonly buildArgs?: BuildRequest['args'];
  readonly buildTarget?: string | undefined;
  readonly buildLabels?: BuildRequest['labels'];
  readonly buildSecrets?: readonly string[] | undefined;
  readonly buildSsh?: readonly string[] | undefined;
  readonly buildNetwork?: 'default' | 'none' | 'host' | undefined;
  readonly buildAttestations?:
    | { readonly sbom?: boolean | undefined; readonly provenance?: 'none' | 'min' | 'max' | undefined }
    | undefined;
}

export type RequestedContext =
  | { readonly kind: 'files'; readonly files: Readonly<Record<string, string>> }
  | { readonly kind: 'layer'; readonly layer: RequestedLayer };
