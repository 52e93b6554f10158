// The variables that every Containerfile has without an ARG in front of its first FROM.
import { formatPlatform, type Platform } from '../../oci/platform.ts';

export interface BuildPlatforms {
  /** Of the machine that builds. */
  readonly build: Platform;
  readonly target: Platform;
}

/** https://docs.docker.com/reference/dockerfile/#automatic-platform-args-in-the-global-scope; `stage` is the target stage. */
export function platformArgs({ build, target }: BuildPlatforms, stage: string): ReadonlyMap<string, string> {
  return new Map([
    ['BUILDPLATFORM', formatPlatform(build)],
    ['BUILDOS', build.os],
    ['BUILDOSVERSION', ''],
    ['BUILDARCH', build.architecture],
    ['BUILDVARIANT', build.variant ?? ''],
    ['TARGETPLATFORM', formatPlatform(target)],
    ['TARGETOS', target.os],
    ['TARGETOSVERSION', ''],
    ['TARGETARCH', target.architecture],
    ['TARGETVARIANT', target.variant ?? ''],
    ['TARGETSTAGE', stage],
  ]);
}
