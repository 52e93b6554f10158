// A parsed submit request: the source of the image, its changes, and the destination of the result.
import type { Augmentation } from '../augment/augmentation.ts';
import type { BuildRequest } from '../builds/request.ts';
import type { Compression } from '../builds/spec.ts';
import type { Platform } from '../oci/platform.ts';
import type { WantedLayer } from '../pull/layers/describe-layer.ts';
import type { ScanDemand, ScanLevel } from '../scans/record.ts';

export interface SubmitRequest {
  readonly source: SubmitSource;
  /** As requested. */
  readonly containerPlatform: string | undefined;
  /** Undefined: all platforms of the image. */
  readonly platforms: readonly Platform[] | undefined;
  /** Undefined where it is empty. */
  readonly containerConfig: ContainerConfig | undefined;
  readonly containerIncludes: readonly string[];
  readonly towerWorkspaceId: number | undefined;
  readonly workflowId: string | undefined;
  readonly fingerprint: string | undefined;
  /** The offset of the client's clock, such as `+01:00` or `Z`. */
  readonly zoneId: string | undefined;
  readonly dryRun: boolean;
  readonly build: RequestedBuild;
  /** Undefined: no scan is wanted. */
  readonly scanMode: ScanDemand['mode'] | undefined;
  /** The severities that the image may have, where the scan is required. */
  readonly scanLevels: readonly ScanLevel[];
  /** Fields that were ignored, each in a sentence. */
  readonly warnings: readonly string[];
}

/** The source of the image. */
export type SubmitSource =
  /** An image reference as requested, valid for parseReference. */
  { readonly kind: 'image'; readonly image: string } | BuildSource;

export type BuildSource =
  /** The text of a Containerfile. */
  | { readonly kind: 'file'; readonly containerFile: string }
  /** Valid for PlanPackages. */
  | { readonly kind: 'packages'; readonly packages: unknown };

/** The requested changes. */
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
  /** As requested, like every repository here. */
  readonly buildRepository?: string | undefined;
  readonly cacheRepository?: string | undefined;
  /** Stores the changed image under its own name. */
  readonly freeze?: boolean | undefined;
  /** Copies the unchanged image. */
  readonly mirror?: boolean | undefined;
  /** How the packages contribute to the name of the image. Default: tagPrefix. */
  readonly nameStrategy?: 'none' | 'tagPrefix' | 'imageSuffix' | undefined;
  readonly buildCompression?: Compression | undefined;
  readonly buildTemplate?: string | undefined;
  readonly buildTag?: string | undefined;
  /** Of the result. Absent: an image for docker and OCI. */
  readonly format?: 'sif' | undefined;
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
