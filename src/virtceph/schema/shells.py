"""The fixed parts of the completion scripts, one template for each shell."""

from __future__ import annotations

from string import Template

# What bash and zsh have alike.
_COMMANDS = r"""_virtceph_options() {
    case $$1 in
$command_options
        *) printf '%s\n' $options ;;
    esac
}

# What comes after a command: names of VMs, VM@SET, ids of jobs; $$2 is the VM that was said.
_virtceph_vms() { $vms; }
_virtceph_jobs() { $jobs; }
_virtceph_sets() {
    local name
    if [[ -z $$2 ]]; then
        _virtceph_vms | while IFS= read -r name; do printf '%s@\n' "$$name"; done
    else
        $sets | while IFS= read -r name; do printf '%s@%s\n' "$$2" "$$name"; done
    fi
}

_virtceph_said_after() {
    local vm=
    [[ $$2 == *@* ]] && vm=$${2%@*}
    case $$1 in
$asking
    esac
}

"""

BASH = Template(
    r"""# bash completion for virtceph. Generated from the contract; do not edit.

_virtceph_verbs() {
    case $$1 in
$verbs
    esac
}

_virtceph_params() {
    case $$1 in
$params
    esac
}

_virtceph_ask() {
    command virtceph --timeout 2 "$${_virtceph_socket[@]}" "$$@" 2>/dev/null
}

_virtceph_values() {
    case $$1 in
$values
    esac
}

"""
    + _COMMANDS
    + r"""# The words that may stand where the cursor is, one a line.
_virtceph_candidates() {
    local current=$$1 namespace=$$2 verb=$$3 key value
    if [[ $$current == -* ]]; then
        _virtceph_options "$$namespace"
    elif [[ $$namespace =~ ^($asked)$$ ]]; then
        _virtceph_said_after "$$namespace" "$$current" | while IFS= read -r value; do
            printf '%q\n' "$$value"
        done
    elif [[ -z $$namespace ]]; then
        printf '%s\n' $namespaces
    elif [[ -z $$verb ]]; then
        _virtceph_verbs "$$namespace"
    elif [[ $$current == *=* ]]; then
        key=$${current%%=*}
        _virtceph_values "$$namespace.$$verb.$$key" | while IFS= read -r value; do
            printf '%s=%q\n' "$$key" "$$value"
        done
    else
        _virtceph_params "$$namespace.$$verb"
    fi
}

_virtceph() {
    local line=$${COMP_LINE:0:COMP_POINT} current= namespace= verb= previous= word breaks= cut=
    local -a words _virtceph_socket=()
    read -ra words <<<"$$line"
    if [[ $$line != *[[:space:]] ]]; then
        current=$${words[-1]}
        unset 'words[-1]'
    fi
    for word in "$${words[@]:1}"; do
        case $$previous in
            --socket) _virtceph_socket=(--socket "$$word"); previous=; continue ;;
            $valued) previous=; continue ;;
        esac
        previous=$$word
        if [[ $$word == -* ]]; then
            continue
        elif [[ -z $$namespace ]]; then
            namespace=$$word
        elif [[ -z $$verb ]]; then
            verb=$$word
        fi
    done
    COMPREPLY=()
    case $$previous in
        $files) compopt -o default 2>/dev/null; return ;;
        $valued) return ;;
    esac
    # Readline replaces only what follows the last = or : where these break words.
    [[ $$COMP_WORDBREAKS == *=* ]] && breaks+="="
    [[ $$COMP_WORDBREAKS == *:* ]] && breaks+=":"
    [[ $$COMP_WORDBREAKS == *@* ]] && breaks+="@"
    [[ -n $$breaks && $$current == *[$$breaks]* ]] && cut=$${current%"$${current##*[$$breaks]}"}
    while IFS= read -r word; do
        [[ $$word == "$$current"* ]] && COMPREPLY+=("$${word#"$$cut"}")
    done < <(_virtceph_candidates "$$current" "$$namespace" "$$verb")
    [[ $${#COMPREPLY[@]} -eq 1 && $${COMPREPLY[0]} == *[=@] ]] && compopt -o nospace 2>/dev/null
    return 0
}

complete -F _virtceph virtceph
"""
)

ZSH = Template(
    r"""#compdef virtceph
# zsh completion for virtceph. Generated from the contract; do not edit.

_virtceph_verbs() {
    case $$1 in
$verbs
    esac
}

_virtceph_params() {
    case $$1 in
$params
    esac
}

_virtceph_ask() {
    command virtceph --timeout 2 $$_virtceph_socket "$$@" 2>/dev/null
}

_virtceph_values() {
    case $$1 in
$values
    esac
}

"""
    + _COMMANDS
    + r"""_virtceph() {
    local namespace= verb= previous= word key
    local -a _virtceph_socket found
    for word in $${words[2,CURRENT-1]}; do
        case $$previous in
            --socket) _virtceph_socket=(--socket $$word); previous=; continue ;;
            $valued) previous=; continue ;;
        esac
        previous=$$word
        if [[ $$word == -* ]]; then
            continue
        elif [[ -z $$namespace ]]; then
            namespace=$$word
        elif [[ -z $$verb ]]; then
            verb=$$word
        fi
    done
    case $$previous in
        $files) _files; return ;;
        $valued) return ;;
    esac
    if [[ $$PREFIX == -* ]]; then
        found=($${(f)"$$(_virtceph_options $$namespace)"})
        compadd -a found
    elif [[ $$namespace =~ '^($asked)$$' ]]; then
        found=($${(f)"$$(_virtceph_said_after $$namespace $$PREFIX)"})
        compadd -a found
    elif [[ -z $$namespace ]]; then
        compadd -- $namespaces
    elif [[ -z $$verb ]]; then
        found=($${(f)"$$(_virtceph_verbs $$namespace)"})
        compadd -a found
    elif [[ $$PREFIX == *=* ]]; then
        key=$${PREFIX%%=*}
        compset -P '*='
        found=($${(f)"$$(_virtceph_values $$namespace.$$verb.$$key)"})
        compadd -a found
    else
        found=($${(f)"$$(_virtceph_params $$namespace.$$verb)"})
        compadd -S '' -a found
    fi
}

if [[ $$funcstack[1] == _virtceph ]]; then _virtceph "$$@"; else compdef _virtceph virtceph; fi
"""
)

FISH = Template(r"""# fish completion for virtceph. Generated from the contract; do not edit.

# The namespace, the verb and the parameters said so far, one a line.
function __virtceph_said
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $$skip -eq 1
            set skip 0
            continue
        end
        switch $$word
            case $valued
                set skip 1
            case '-*'
            case '*'
                echo $$word
        end
    end
end

# True where exactly these words were said, or these two and any parameters.
function __virtceph_after
    set -l said (__virtceph_said)
    if test (count $$argv) -lt 2
        test (count $$said) -eq (count $$argv); and test "$$said" = "$$argv"
    else
        test (count $$said) -ge 2; and test "$$said[1..2]" = "$$argv"
    end
end

# __virtceph_ask PARAMETER FIELD NAMESPACE VERB: `PARAMETER=value` for each of the daemon's answers.
function __virtceph_ask
    set -l line '^ *"'$$argv[2]'": "([^"\\\\]*)",?$$'
    command virtceph --timeout 2 $$argv[3..4] 2>/dev/null |
        string replace -rf $$line $$argv[1]'=$$1'
end

# True after a command, whatever was said behind it.
function __virtceph_in
    set -l said (__virtceph_said)
    test (count $$said) -ge 1; and test "$$said[1]" = $$argv[1]
end

# __virtceph_list FIELD WORDS…: that field of each of the daemon's answers.
function __virtceph_list
    set -l line '^ *"'$$argv[1]'": "([^"\\\\]*)",?$$'
    command virtceph --timeout 2 $$argv[2..-1] 2>/dev/null | string replace -rf $$line '$$1'
end

function __virtceph_vms
    __virtceph_list name Host getVMList
end

function __virtceph_jobs
    __virtceph_list id Host getJobs
end

function __virtceph_sets
    set -l current (commandline -ct)
    if string match -q '*@*' -- $$current
        set -l vm (string replace -r '@[^@]*$$' '' -- $$current)
        for name in (__virtceph_list snapshotName snapshots $$vm --json)
            echo $$vm@$$name
        end
    else
        for vm in (__virtceph_vms)
            echo $$vm@
        end
    end
end

complete -c virtceph -f
complete -c virtceph -s h -l help -d 'Show help'
complete -c virtceph -l version -d 'Show the version'
complete -c virtceph -l socket -r -F -d 'The socket of the daemon'
complete -c virtceph -l timeout -x -d 'Seconds to wait'
complete -c virtceph -l human -d 'Tables instead of JSON'
complete -c virtceph -l wait -d 'Wait for the end of the job'
complete -c virtceph -s f -r -F -d 'Read the parameters from a file'
$rules
""")
