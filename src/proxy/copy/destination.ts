// Destinations: what a name that is pushed to means, hosted here or in another registry.
import type { Destination } from '../../build/images.ts';
import type { Hosted } from '../../hosted/hosted.ts';
import type { ContentDescriptor } from '../../oci/descriptor.ts';
import type { CallOptions, Upstreams } from '../../upstream/upstream.ts';
import { type Origin, type Origins, originName } from '../origin.ts';
import { createHostedDestination } from './hosted-destination.ts';
import type { Open } from './pushed-body.ts';
import { createUpstreamDestination } from './upstream-destination.ts';

/** A destination that can take over blobs which its own registry has already. */
export interface MountingDestination extends Destination {
  /** `from`: where the blob is, which is asked for a mount where it is another repository of the same registry. */
  putBlob(blob: ContentDescriptor, open: Open, options?: PutBlobOptions): Promise<void>;
}

export interface PutBlobOptions {
  readonly from?: Origin | undefined;
}

/** An OpenDestination. The signal ends what is under way, with its reason. */
export type OpenMountingDestination = (repository: string, options?: CallOptions) => MountingDestination;

export interface DestinationsDeps {
  readonly origins: Pick<Origins, 'locateName'>;
  readonly upstreams: Pick<Upstreams, 'getPusher'>;
  readonly hosted: Hosted;
}

export function createDestinations({ origins, upstreams, hosted }: DestinationsDeps): OpenMountingDestination {
  return (name, options = {}) => {
    const origin = origins.locateName(name);
    if (origin.registry.isHosted) return createHostedDestination(hosted, originName(origin), options);
    return createUpstreamDestination(upstreams.getPusher(origin.registry.name), origin, options);
  };
}
