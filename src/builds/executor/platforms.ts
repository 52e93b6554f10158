// Which backend builds what: the platforms of one build, spread over the configured backends.
import { isSamePlatform, type Platform, parsePlatform } from '../../oci/platform.ts';
import type { Backend } from '../backend.ts';
import type { ContainerFileSpec } from '../spec.ts';
import { createSurvey, type Offer, type SurveyOptions } from './survey.ts';
import { UnsupportedPlatform } from './unsupported-platform.ts';

type Assigned = ReadonlyMap<Backend, readonly Platform[]>;

export interface Platforms {
  /** What can be built for now, in the configured order of the backends. */
  list(): Promise<readonly Offer[]>;
  /**
   * Who builds what: each platform goes to the first backend, in the configured order, that has it and can do the spec. No backend has
   * an empty list. Throws UnsupportedPlatform unless each of the spec's platforms has a backend that is none of `without`.
   */
  assign(spec: ContainerFileSpec, without?: ReadonlySet<Backend>): Promise<Assigned>;
}

export function createPlatforms(backends: readonly Backend[], options: SurveyOptions = {}): Platforms {
  const list = createSurvey(backends, options);
  return {
    list,
    async assign(spec, without = new Set()) {
      return assignOffers(
        spec,
        (await list()).filter(({ backend }) => !without.has(backend)),
      );
    },
  };
}

function assignOffers(spec: ContainerFileSpec, offers: readonly Offer[]): Assigned {
  const able = offers.filter(({ backend }) => backend.findObstacle(spec) === undefined);
  const assigned = new Map<Backend, Platform[]>();
  const missing: Platform[] = [];
  for (const platform of spec.platforms.map(parsePlatform)) {
    const backend = findBackend(platform, able);
    if (backend) assigned.set(backend, [...(assigned.get(backend) ?? []), platform]);
    else missing.push(platform);
  }
  if (missing.length > 0) throw new UnsupportedPlatform(missing, offers, spec);
  return assigned;
}

function findBackend(platform: Platform, offers: readonly Offer[]): Backend | undefined {
  return offers.find(({ platforms }) => platforms.some(other => isSamePlatform(other, platform)))?.backend;
}
