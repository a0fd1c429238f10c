# fish completion for virtceph. Generated from the contract; do not edit.

# The namespace, the verb and the parameters said so far, one a line.
function __virtceph_said
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip -eq 1
            set skip 0
            continue
        end
        switch $word
            case --socket --timeout -f
                set skip 1
            case '-*'
            case '*'
                echo $word
        end
    end
end

# True where exactly these words were said, or these two and any parameters.
function __virtceph_after
    set -l said (__virtceph_said)
    if test (count $argv) -lt 2
        test (count $said) -eq (count $argv); and test "$said" = "$argv"
    else
        test (count $said) -ge 2; and test "$said[1..2]" = "$argv"
    end
end

# __virtceph_ask PARAMETER FIELD NAMESPACE VERB: `PARAMETER=value` for each of the daemon's answers.
function __virtceph_ask
    set -l line '^ *"'$argv[2]'": "([^"\\\\]*)",?$'
    command virtceph --timeout 2 $argv[3..4] 2>/dev/null |
        string replace -rf $line $argv[1]'=$1'
end

complete -c virtceph -f
complete -c virtceph -s h -l help -d 'Show help'
complete -c virtceph -l version -d 'Show the version'
complete -c virtceph -l socket -r -F -d 'The socket of the daemon'
complete -c virtceph -l timeout -x -d 'Seconds to wait'
complete -c virtceph -l human -d 'Tables instead of JSON'
complete -c virtceph -l wait -d 'Wait for the end of the job'
complete -c virtceph -s f -r -F -d 'Read the parameters from a file'
complete -c virtceph -n '__virtceph_after' -a Host
complete -c virtceph -n '__virtceph_after Host' -a ping2 -d "Say that the daemon is alive. Asks neither libvirt nor Ceph."
complete -c virtceph -n '__virtceph_after Host' -a echo -d "Answer the message."
complete -c virtceph -n '__virtceph_after Host echo' -a 'message='
complete -c virtceph -n '__virtceph_after Host' -a getCapabilities -d "Tell the versions and what this host and build can do."
complete -c virtceph -n '__virtceph_after Host' -a getVMList -d "List the VMs of this host."
complete -c virtceph -n '__virtceph_after Host getVMList' -a '"fullStatus=true" "fullStatus=false"'
complete -c virtceph -n '__virtceph_after Host getVMList' -a 'vmList='
complete -c virtceph -n '__virtceph_after Host getVMList' -a '"onlyUUID=true" "onlyUUID=false"'
complete -c virtceph -n '__virtceph_after Host' -a getJobs -d "Tell how jobs stand."
complete -c virtceph -n '__virtceph_after Host getJobs' -a 'job_type='
complete -c virtceph -n '__virtceph_after Host getJobs' -a 'job_ids='
complete -c virtceph -n '__virtceph_after Host' -a registerSecrets -d "Make keys known to libvirt as ephemeral, private secrets."
complete -c virtceph -n '__virtceph_after Host registerSecrets' -a 'secrets='
complete -c virtceph -n '__virtceph_after Host registerSecrets' -a '"clear=true" "clear=false"'
complete -c virtceph -n '__virtceph_after Host' -a unregisterSecrets -d "Remove secrets."
complete -c virtceph -n '__virtceph_after Host unregisterSecrets' -a 'uuids='
complete -c virtceph -n '__virtceph_after Host' -a listSecrets -d "List the registered secrets, without their values."
complete -c virtceph -n '__virtceph_after' -a VM
complete -c virtceph -n '__virtceph_after VM' -a getInfo -d "Tell a VM's state, its agent and its disks."
complete -c virtceph -n '__virtceph_after VM getInfo' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM' -a freeze -d "Freeze the mounted file systems of a running VM, for a limited time."
complete -c virtceph -n '__virtceph_after VM freeze' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM freeze' -a 'timeout='
complete -c virtceph -n '__virtceph_after VM' -a extendFreeze -d "Let a freeze last longer."
complete -c virtceph -n '__virtceph_after VM extendFreeze' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM extendFreeze' -a 'timeout='
complete -c virtceph -n '__virtceph_after VM' -a thaw -d "Thaw the file systems of a VM."
complete -c virtceph -n '__virtceph_after VM thaw' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM thaw' -a '"force=true" "force=false"'
complete -c virtceph -n '__virtceph_after VM' -a getFreezeStatus -d "Tell whether a guest is frozen, since when and by whom."
complete -c virtceph -n '__virtceph_after VM getFreezeStatus' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM' -a snapshot -d "Snapshot a VM's disks, and its memory if wanted, as a job."
complete -c virtceph -n '__virtceph_after VM snapshot' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM snapshot' -a 'snapDrives='
complete -c virtceph -n '__virtceph_after VM snapshot' -a 'snapMemory='
complete -c virtceph -n '__virtceph_after VM snapshot' -a '"frozen=true" "frozen=false"'
complete -c virtceph -n '__virtceph_after VM snapshot' -a 'jobUUID='
complete -c virtceph -n '__virtceph_after VM snapshot' -a 'timeout='
complete -c virtceph -n '__virtceph_after VM snapshot' -a 'freeze_timeout='
complete -c virtceph -n '__virtceph_after VM' -a createConsistentSnapshot -d "Snapshot a VM's disks together under one short freeze, as a job."
complete -c virtceph -n '__virtceph_after VM createConsistentSnapshot' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM createConsistentSnapshot' -a 'snapshotName='
complete -c virtceph -n '__virtceph_after VM createConsistentSnapshot' -a 'disks='
complete -c virtceph -n '__virtceph_after VM createConsistentSnapshot' -a '"freeze=required" "freeze=preferred" "freeze=no"'
complete -c virtceph -n '__virtceph_after VM createConsistentSnapshot' -a '"method=parallel" "method=group"'
complete -c virtceph -n '__virtceph_after VM createConsistentSnapshot' -a 'maxFrozen='
complete -c virtceph -n '__virtceph_after VM createConsistentSnapshot' -a 'memoryPath='
complete -c virtceph -n '__virtceph_after VM createConsistentSnapshot' -a 'description='
complete -c virtceph -n '__virtceph_after VM createConsistentSnapshot' -a 'jobUUID='
complete -c virtceph -n '__virtceph_after VM' -a listConsistentSnapshots -d "List the sets of snapshots of a VM, oldest first."
complete -c virtceph -n '__virtceph_after VM listConsistentSnapshots' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM' -a deleteConsistentSnapshot -d "Delete a set of snapshots, as a job."
complete -c virtceph -n '__virtceph_after VM deleteConsistentSnapshot' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM deleteConsistentSnapshot' -a 'snapshotName='
complete -c virtceph -n '__virtceph_after VM deleteConsistentSnapshot' -a 'jobUUID='
complete -c virtceph -n '__virtceph_after VM' -a pruneConsistentSnapshots -d "Delete a VM's sets of snapshots but those that are to be kept."
complete -c virtceph -n '__virtceph_after VM pruneConsistentSnapshots' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM pruneConsistentSnapshots' -a 'keepLast='
complete -c virtceph -n '__virtceph_after VM pruneConsistentSnapshots' -a 'keepDaily='
complete -c virtceph -n '__virtceph_after VM pruneConsistentSnapshots' -a 'keepWeekly='
complete -c virtceph -n '__virtceph_after VM pruneConsistentSnapshots' -a 'keepMonthly='
complete -c virtceph -n '__virtceph_after VM pruneConsistentSnapshots' -a '"dryRun=true" "dryRun=false"'
complete -c virtceph -n '__virtceph_after VM' -a restoreConsistentSnapshot -d "Restore a set of snapshots, as a job."
complete -c virtceph -n '__virtceph_after VM restoreConsistentSnapshot' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM restoreConsistentSnapshot' -a 'snapshotName='
complete -c virtceph -n '__virtceph_after VM restoreConsistentSnapshot' -a '"into=rollback" "into=clones"'
complete -c virtceph -n '__virtceph_after VM restoreConsistentSnapshot' -a 'clonePrefix='
complete -c virtceph -n '__virtceph_after VM restoreConsistentSnapshot' -a '"withMemory=true" "withMemory=false"'
complete -c virtceph -n '__virtceph_after VM restoreConsistentSnapshot' -a 'jobUUID='
complete -c virtceph -n '__virtceph_after' -a StorageDomain
complete -c virtceph -n '__virtceph_after StorageDomain' -a connect -d "Connect to a pool of a Ceph cluster with a registered key."
complete -c virtceph -n '__virtceph_after StorageDomain connect' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after StorageDomain connect' -a 'name='
complete -c virtceph -n '__virtceph_after StorageDomain connect' -a 'monitors='
complete -c virtceph -n '__virtceph_after StorageDomain connect' -a 'user='
complete -c virtceph -n '__virtceph_after StorageDomain connect' -a 'secretUUID='
complete -c virtceph -n '__virtceph_after StorageDomain connect' -a 'pool='
complete -c virtceph -n '__virtceph_after StorageDomain connect' -a 'namespace='
complete -c virtceph -n '__virtceph_after StorageDomain' -a disconnect -d "Close the connection to a storage domain. Running VMs keep theirs."
complete -c virtceph -n '__virtceph_after StorageDomain disconnect' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after StorageDomain' -a list -d "List the connected storage domains."
complete -c virtceph -n '__virtceph_after StorageDomain' -a getStats -d "Tell whether a storage domain is reachable, its latency, room and health."
complete -c virtceph -n '__virtceph_after StorageDomain getStats' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after' -a Volume
complete -c virtceph -n '__virtceph_after Volume' -a create -d "Create an RBD image."
complete -c virtceph -n '__virtceph_after Volume create' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume create' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume create' -a 'size='
complete -c virtceph -n '__virtceph_after Volume create' -a 'objectSize='
complete -c virtceph -n '__virtceph_after Volume create' -a '"features=layering" "features=exclusive-lock" "features=object-map" "features=fast-diff" "features=deep-flatten"'
complete -c virtceph -n '__virtceph_after Volume create' -a 'dataPool='
complete -c virtceph -n '__virtceph_after Volume' -a delete -d "Delete an RBD image that nobody has open and that has no snapshots."
complete -c virtceph -n '__virtceph_after Volume delete' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume delete' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume' -a getInfo -d "Tell an image's size, layout, parent, users and metadata."
complete -c virtceph -n '__virtceph_after Volume getInfo' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume getInfo' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume' -a list -d "List images and their sizes, in the order of their names."
complete -c virtceph -n '__virtceph_after Volume list' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume list' -a 'limit='
complete -c virtceph -n '__virtceph_after Volume list' -a 'after='
complete -c virtceph -n '__virtceph_after Volume' -a createSnapshot -d "Snapshot one image."
complete -c virtceph -n '__virtceph_after Volume createSnapshot' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume createSnapshot' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume createSnapshot' -a 'snapshotName='
complete -c virtceph -n '__virtceph_after Volume' -a deleteSnapshot -d "Delete one snapshot of an image."
complete -c virtceph -n '__virtceph_after Volume deleteSnapshot' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume deleteSnapshot' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume deleteSnapshot' -a 'snapshotName='
complete -c virtceph -n '__virtceph_after Volume' -a listSnapshots -d "List the snapshots of an image, oldest first."
complete -c virtceph -n '__virtceph_after Volume listSnapshots' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume listSnapshots' -a 'volumeName='
complete -c virtceph -n '__virtceph_after' -a completion
complete -c virtceph -n '__virtceph_after completion' -a 'bash zsh fish'
